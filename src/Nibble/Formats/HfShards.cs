using System.Text.Json;
using Nibble.IO;

namespace Nibble.Formats;

/// <summary>Finds the weight files of a model and checks that together they hold every tensor exactly once.</summary>
internal sealed class HfShards
{
    public const string SingleName = "model.safetensors";
    public const string IndexName = "model.safetensors.index.json";
    private const int MostDefects = 200;

    private static readonly string[] PickleExtensions = [".bin", ".pt", ".pth", ".ckpt", ".pkl"];

    private readonly List<string> _defects = [];
    private readonly List<string> _warnings = [];
    private readonly List<SafetensorsFile> _files = [];
    private bool _onlyMissingFiles = true;

    public SafetensorsFile[] Files => _files.ToArray();

    public Dictionary<string, SafetensorsFile> Places { get; } = new(StringComparer.Ordinal);

    public IReadOnlyList<string> Warnings => _warnings;

    public static HfShards Open(string path, Limits limits)
    {
        HfShards shards = new();
        try
        {
            shards.Read(path, limits);
            return shards;
        }
        catch
        {
            shards._files.ForEach(file => file.Dispose());
            throw;
        }
    }

    /// <summary>Refuses a pickle file, or a folder whose only weights are pickle files.</summary>
    public static void RefusePickle(string path)
    {
        string[] pickles = Directory.Exists(path) ? Directory.GetFiles(path).Where(IsPickle).ToArray() : IsPickle(path) ? [path] : [];
        bool hasWeights = Directory.Exists(path) && Directory.EnumerateFiles(path, "*.safetensors*").Any();
        if (pickles.Length > 0 && !hasWeights)
        {
            Throw.BadInput(
                $"{path} holds its weights as pickle files: {string.Join(", ", pickles.Select(Path.GetFileName).Order().Take(10))}",
                "loading a pickle file can run any code that its author put there, so Nibble never reads one",
                "use a safetensors version of the model, or convert it where you trust it (transformers: save_pretrained(safe_serialization=True))");
        }
    }

    public static bool IsPickle(string path) =>
        PickleExtensions.Contains(Path.GetExtension(path).ToLowerInvariant()) && Path.GetFileName(path) is not ("training_args.bin" or "optimizer.pt" or "scheduler.pt");

    private void Read(string path, Limits limits)
    {
        if (File.Exists(path))
        {
            Add(SafetensorsFile.Open(path, limits), null);
        }
        else if (File.Exists(Path.Combine(path, SingleName)))
        {
            Add(SafetensorsFile.Open(Path.Combine(path, SingleName), limits), null);
        }
        else if (File.Exists(Path.Combine(path, IndexName)))
        {
            ReadIndexed(path, limits);
        }
        else
        {
            RefuseNoWeights(path);
        }

        ThrowDefects(path);
    }

    private static void RefuseNoWeights(string folder)
    {
        string[] others = Directory.GetFiles(folder, "*.safetensors").Select(file => Path.GetFileName(file)).Order().ToArray();
        string found = others.Length == 0 ? "it holds no .safetensors file" : $"it holds {string.Join(", ", others.Take(10))}";
        string remedy = others.Length == 1 ? $"give the file itself: {Path.Combine(folder, others[0])}" : "give the folder of a Hugging Face model";
        Throw.NotFound($"{folder} has no {SingleName} and no {IndexName}", found, remedy);
    }

    private void ReadIndexed(string folder, Limits limits)
    {
        string indexPath = Path.Combine(folder, IndexName);
        JsonConfig index = JsonConfig.Open(indexPath, limits);
        Dictionary<string, string> map = ReadWeightMap(index);
        foreach (string shard in map.Values.Distinct().Order(StringComparer.Ordinal))
        {
            OpenShard(folder, shard, map, limits);
        }

        foreach ((string name, string shard) in map.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            if (!Places.ContainsKey(name) && _files.Any(file => Path.GetFileName(file.Path) == shard))
            {
                Defect($"tensor '{name}' should be in {shard}, but no shard has it");
            }
        }

        CheckTotalSize(index);
    }

    private static Dictionary<string, string> ReadWeightMap(JsonConfig index)
    {
        JsonConfig section = index.Section("weight_map") ?? throw new NibbleException(
            ErrorKind.BadInput, $"{index.Source}: weight_map is missing", "the index does not say which shard holds which tensor", "download the file again");
        Dictionary<string, string> map = new(StringComparer.Ordinal);
        foreach (JsonProperty property in section.Element.EnumerateObject())
        {
            string shard = property.Value.ValueKind == JsonValueKind.String ? property.Value.GetString()! : string.Empty;
            // A shard name with a path in it would let a downloaded index reach any file of the user.
            if (shard.Length == 0 || shard.AsSpan().ContainsAny('/', '\\', ':') || shard.StartsWith('.') || !shard.EndsWith(".safetensors", StringComparison.Ordinal))
            {
                Throw.BadInput($"{index.Source}: tensor '{property.Name}' is placed in {property.Value.GetRawText()}", "a shard must be a .safetensors file in the same folder");
            }

            map.Add(property.Name, shard);
        }

        return map;
    }

    private void OpenShard(string folder, string shard, Dictionary<string, string> map, Limits limits)
    {
        string path = Path.Combine(folder, shard);
        if (!File.Exists(path))
        {
            Defect($"shard {shard} is missing ({map.Values.Count(name => name == shard):N0} tensors)", missingFile: true);
            return;
        }

        try
        {
            Add(SafetensorsFile.Open(path, limits), map);
        }
        catch (NibbleException error) when (error.Kind == ErrorKind.BadInput)
        {
            Defect($"shard {shard}: {error.Why}");
        }
    }

    private void Add(SafetensorsFile file, Dictionary<string, string>? map)
    {
        _files.Add(file);
        string shard = Path.GetFileName(file.Path);
        foreach (string name in file.Entries.Keys)
        {
            if (!Places.TryAdd(name, file))
            {
                Defect($"tensor '{name}' is in two shards: {Path.GetFileName(Places[name].Path)} and {shard}");
            }
            else if (map != null && !map.TryGetValue(name, out _))
            {
                _warnings.Add($"tensor '{name}' of {shard} is not in the index");
            }
            else if (map != null && map[name] != shard)
            {
                Defect($"tensor '{name}' is in {shard}, but the index places it in {map[name]}");
            }
        }
    }

    private void CheckTotalSize(JsonConfig index)
    {
        JsonElement total = default;
        bool stated = index.Section("metadata")?.Element.TryGetProperty("total_size", out total) == true;
        if (!stated || _defects.Count > 0)
        {
            return;
        }

        long present = _files.Sum(file => file.Entries.Values.Sum(entry => entry.ByteLength));
        // Some writers count shared tensors twice, or write a float: the shards themselves are checked, so this only warns.
        if (total.ValueKind != JsonValueKind.Number || !total.TryGetDouble(out double bytes) || bytes != present)
        {
            _warnings.Add($"{IndexName} states a total_size of {total.GetRawText()}, the shards hold {present:N0} bytes");
        }
    }

    private void Defect(string text, bool missingFile = false)
    {
        _defects.Add(text);
        _onlyMissingFiles &= missingFile;
    }

    private void ThrowDefects(string path)
    {
        if (_defects.Count == 0)
        {
            return;
        }

        string list = string.Join('\n', _defects.Take(MostDefects).Select(defect => "  " + defect));
        string more = _defects.Count > MostDefects ? $"\n  and {_defects.Count - MostDefects:N0} more" : string.Empty;
        throw new NibbleException(
            _onlyMissingFiles ? ErrorKind.NotFound : ErrorKind.BadInput,
            $"{path}: {_defects.Count} defect{(_defects.Count == 1 ? string.Empty : "s")} in its weight files",
            list + more,
            "download the model again");
    }
}
