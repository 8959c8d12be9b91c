using Nibble.Evaluation.Texts;
using YamlDotNet.RepresentationModel;

namespace Nibble.Runs.Studies;

/// <summary>Reads the steps of a model's preparation: a list of mappings of one verb to the verb's own options, with _ for -.</summary>
/// <param name="place">Where data of a name or path stand.</param>
/// <param name="seed">Seed of the study, for steps that name none.</param>
/// <param name="threads">Threads of the study, for steps that name none.</param>
internal sealed class StudySteps(Func<string, string> place, int seed, int? threads)
{
    private static readonly string[] Verbs = ["finetune", "quantize", "merge"];

    // What the runner itself says.
    private static readonly string[] Reserved = ["output", "o", "force", "json", "resume", "dry_run", "adapter", "demo"];

    /// <summary>The steps under <c>prepare</c>.</summary>
    public IReadOnlyList<StudyStep> Read(YamlMap model) => [.. model.List("prepare").Select(node => Step(model.Item("prepare", node), node))];

    private StudyStep Step(YamlMap item, YamlNode node)
    {
        (string Verb, YamlMap Options)[] given = [.. Verbs.Select(verb => (verb, item.Map(verb)!)).Where(pair => pair.Item2 is not null)];
        item.RefuseUnknown();
        if (given.Length != 1)
        {
            throw item.Refusal(node, $"a step of 'prepare' is one of {string.Join(", ", Verbs)}");
        }

        (string chosen, YamlMap options) = given[0];
        List<string> arguments = [], data = [];
        foreach ((string key, string value) in options.Pairs())
        {
            if (Reserved.Contains(key))
            {
                throw options.Refusal($"'{key}' can't be given to a step", "the study itself says where results go", "remove the line");
            }

            arguments.AddRange(Argument(item, node, key, value, data));
        }

        string[] named = [.. options.Pairs().Select(pair => pair.Key)];
        if (!named.Contains("seed"))
        {
            arguments.Add($"--seed={seed}");
        }

        if (threads is not null && !named.Contains("threads"))
        {
            arguments.Add($"--threads={threads}");
        }

        return new StudyStep(chosen, arguments, data);
    }

    private IEnumerable<string> Argument(YamlMap item, YamlNode node, string key, string value, List<string> data)
    {
        string flag = "--" + key.Replace('_', '-');
        if (value == "true")
        {
            return [flag];
        }

        if (key is not ("data" or "eval_data"))
        {
            return [$"{flag}={value}"];
        }

        string full = place(value);
        if (!TextSource.IsName(value))
        {
            data.Add(Path.Exists(full) ? full : throw item.Missing(node, $"{key} '{value}' is not on this machine", $"looked for {full}"));
        }

        return [$"{flag}={full}"];
    }
}
