using System.CommandLine;
using Nibble.IO;

namespace Nibble.Cli;

/// <summary>
/// Options that several verbs share, with one spelling and one meaning. Factories, because each command owns its options; the
/// static ones are handled by the host before a verb runs.
/// </summary>
internal static class CommonOptions
{
    public static Option<bool> Verbose { get; } = new("--verbose") { Description = "Show stack traces and details." };

    public static Option<string?> Config { get; } = new("--config") { Description = "YAML file of option values; flags win over it." };

    public static Option<string[]> Set { get; } = new("--set") { Description = "key=value: as --key value; may be repeated." };

    public static Argument<string> Model() =>
        new("model") { Description = "A Hugging Face folder, a .gguf or a .safetensors file; ORG/NAME of a model that nibble pull brought; or nibble-gpt2-10m, nibble-llama-4m.", CustomParser = result => Place(result)! };

    /// <summary>What a model's argument says: a path, the name of a model that comes with Nibble, so that examples work for the installed tool too, or of one in the Hub's cache.</summary>
    public static string? Place(System.CommandLine.Parsing.ArgumentResult result)
    {
        string? given = result.Tokens.Count == 0 ? null : result.Tokens[0].Value;
        string? name = given?.StartsWith("assets/", StringComparison.Ordinal) == true ? given["assets/".Length..] : given;
        return given is null || Path.Exists(given) || name is not ("nibble-gpt2-10m" or "nibble-llama-4m")
            ? given is null ? null : Hub.HubCache.Find(given)
            : AssetFolder.TryFind(Path.Combine("assets", name)) ?? given;
    }

    public static Option<bool> Json() =>
        new("--json") { Description = "Print the result as one JSON document on stdout, and nothing else there." };

    public static Option<string?> Output(string description) => new("--output", "-o") { Description = description };

    public static Option<bool> Force() => new("--force") { Description = "Replace an existing output." };

    public static Option<bool> DryRun() => new("--dry-run") { Description = "Show the plan, bytes and time, and do nothing." };

    public static Option<int> Seed() =>
        new("--seed") { Description = "Seed of everything random.", DefaultValueFactory = _ => 1234 };

    public static Option<int?> Threads() =>
        new("--threads") { Description = "Threads of the CPU backend (default: all processors, or NIBBLE_THREADS)." };

    /// <summary>Makes --threads known to work that runs outside a backend (quantization methods).</summary>
    public static void UseThreads(int? threads)
    {
        if (threads is { } count)
        {
            Environment.SetEnvironmentVariable("NIBBLE_THREADS", count.ToString(System.Globalization.CultureInfo.InvariantCulture));
        }
    }

    public static Option<string> Device() =>
        new("--device") { Description = "auto (the processor), cpu, cuda or cuda:NUMBER.", DefaultValueFactory = _ => "auto" };

    public static Option<string?> Dtype()
    {
        Option<string?> option = new("--dtype") { Description = "Dtype of dense weights: f32, bf16, f16 (default: as stored). With --device cuda, bf16 also multiplies in BF16 on tensor cores." };
        option.AcceptOnlyFromAmong("f32", "bf16", "f16");
        return option;
    }

    public static Option<string> PackCache() => new("--pack-cache")
    {
        Description = "Where weights are kept as the processor reads them, for a faster next start: beside (the model's folder .nibble-cache), a folder, or off (or NIBBLE_PACK_CACHE).",
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable("NIBBLE_PACK_CACHE") is { Length: > 0 } place ? place : Models.PackCache.Beside,
    };

    public static Option<string> Activations(string defaultValue)
    {
        Option<string> option = new("--activations")
        {
            Description = "Numbers in which products read activations: f32, int8, auto (int8 where it is faster) or bf16 (products of many rows: prompts, evaluation).",
            DefaultValueFactory = _ => defaultValue,
        };
        option.AcceptOnlyFromAmong("f32", "int8", "auto", "bf16");
        return option;
    }

    public static Option<string?> Affinity() =>
        new("--affinity") { Description = "Processors that the CPU backend's threads are bound to, as 0,1 or 0-3 (default: NIBBLE_AFFINITY, or not bound)." };

    /// <summary>Takes the option for the whole process, as threads are shared by it.</summary>
    public static void UseAffinity(string? list)
    {
        if (list is not null)
        {
            _ = Backends.Cpu.CpuAffinity.Parse(list);
            Environment.SetEnvironmentVariable("NIBBLE_AFFINITY", list);
        }
    }

    public static Option<string> KvCache()
    {
        Option<string> option = new("--kv-cache")
        {
            Description = "Numbers in which keys and values are kept: f32, f16, bf16 or int8 (one scale a token and head).",
            DefaultValueFactory = _ => "f32",
        };
        option.AcceptOnlyFromAmong("f32", "f16", "bf16", "int8");
        return option;
    }
}
