using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;

namespace Nibble;

/// <summary>The short, ordered lists of everything that can be chosen by name. To add a thing: write its file, and one line here.</summary>
public static class Registry
{
    /// <summary>Families of models.</summary>
    public static IReadOnlyList<IArchitecture> Architectures { get; } =
    [
        new Gpt2Architecture(),
        new LlamaArchitecture(),
    ];

    /// <summary>The family that serves a config's <c>model_type</c>; an unknown one is refused with the list of those supported.</summary>
    public static IArchitecture Architecture(ModelConfig config)
    {
        IArchitecture? found = Architectures.FirstOrDefault(family => family.ModelTypes.Contains(config.ModelType));
        if (found is null)
        {
            Throw.BadInput(
                $"{config.Path}: model_type '{config.ModelType}' is not supported",
                $"supported are {string.Join(", ", Architectures.SelectMany(family => family.ModelTypes))}",
                "choose a model of one of these families");
        }

        return found;
    }
}
