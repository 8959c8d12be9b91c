using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>
/// A model in Hugging Face's form: a folder with <c>config.json</c> and <c>model.safetensors</c> or shards with an index; or one
/// <c>.safetensors</c> file with a config beside it. Weights stay in their files until they are loaded, and then are views.
/// </summary>
public sealed class HfFolder : IDisposable
{
    private readonly SafetensorsFile[] _shards;
    private readonly Dictionary<string, SafetensorsFile> _places;

    private HfFolder(string path, ModelConfig config, HfShards shards)
    {
        Path = path;
        Config = config;
        _shards = shards.Files;
        _places = shards.Places;
        Warnings = shards.Warnings;
        Names = _places.Keys.Order(StringComparer.Ordinal).ToArray();
    }

    /// <summary>The folder.</summary>
    public string Path { get; }

    /// <summary>The model's configuration.</summary>
    public ModelConfig Config { get; }

    /// <summary>All tensor names of all shards, sorted.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>Oddities that do not prevent loading, such as an index that states another total size.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>The weight files.</summary>
    public IReadOnlyList<SafetensorsFile> Shards => _shards;

    /// <summary>Bytes of all tensors.</summary>
    public long WeightBytes => _shards.Sum(shard => shard.Entries.Values.Sum(entry => entry.ByteLength));

    /// <summary>Opens a model; all defects of its shards are reported at once.</summary>
    public static HfFolder Open(string path, Limits? limits = null)
    {
        if (!Directory.Exists(path) && !File.Exists(path))
        {
            throw Hub.HubCache.Absent(path);
        }

        HfShards.RefusePickle(path);
        if (File.Exists(path) && path.EndsWith("config.json", StringComparison.OrdinalIgnoreCase))
        {
            Throw.BadInput($"{path} has no weights", "it describes a model, the weights stand beside it", $"give its folder: {(System.IO.Path.GetDirectoryName(path) is { Length: > 0 } beside ? beside : ".")}");
        }

        ModelConfig config = ModelConfig.Open(path, limits);
        string folder = Directory.Exists(path) ? path : System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!;
        return new HfFolder(folder, config, HfShards.Open(path, limits ?? Limits.Default));
    }

    /// <summary>True if a tensor of this name exists.</summary>
    public bool Contains(string name) => _places.ContainsKey(name);

    /// <summary>What the header says about a tensor.</summary>
    public SafetensorsEntry Entry(string name) => Shard(name).Entry(name);

    /// <summary>A tensor as a view of its file.</summary>
    public Tensor Load(string name) => Shard(name).Load(name);

    /// <summary>A tensor of floating point numbers as a view of its file; NaN and infinity are refused with their place.</summary>
    public Tensor LoadFinite(string name)
    {
        Tensor tensor = Load(name);
        FiniteCheck.Require(tensor, name, Shard(name).Path);
        return tensor;
    }

    /// <summary>The bytes of a tensor of any element type, as U8.</summary>
    public Tensor LoadBytes(string name) => Shard(name).LoadBytes(name);

    /// <summary>Drops the pages of a tensor from memory, once its content is packed elsewhere.</summary>
    public void DropPages(string name) => Shard(name).DropPages(name);

    /// <summary>Closes all files: tensors that they gave can no longer be read.</summary>
    public void Dispose() => Array.ForEach(_shards, shard => shard.Dispose());

    private SafetensorsFile Shard(string name)
    {
        if (!_places.TryGetValue(name, out SafetensorsFile? shard))
        {
            Throw.NotFound($"{Path} has no tensor '{name}'", $"it has {Names.Count:N0} others", "list them with: nibble show --tensors");
        }

        return shard;
    }
}
