namespace Nibble.Templates;

/// <summary>What a value is assigned to: one name, several that share a list, or an attribute of a namespace.</summary>
internal sealed class AssignTarget(IReadOnlyList<string> names, string? attribute, bool unpack)
{
    /// <summary>Assigns.</summary>
    public void Assign(object? value, Scope scope)
    {
        if (attribute is not null)
        {
            if (scope.Get(names[0]) is not TemplateNamespace space)
            {
                scope.Run.Fail($"only attributes of a namespace can be set, and '{names[0]}' is none");
                return;
            }

            space.Values[attribute] = value;
        }
        else if (unpack)
        {
            IReadOnlyList<object?> parts = Values.Items(value, scope.Run);
            if (parts.Count != names.Count)
            {
                scope.Run.Fail($"{parts.Count} values for {names.Count} names");
            }

            for (int i = 0; i < names.Count; i++)
            {
                scope.Set(names[i], parts[i]);
            }
        }
        else
        {
            scope.Set(names[0], value);
        }
    }
}
