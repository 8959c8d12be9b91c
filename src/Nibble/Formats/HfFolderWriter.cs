using System.Text.Json;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Formats;

/// <summary>
/// Writes a model folder tensor by tensor, with one shard open at a time. All tensors are declared first; their bytes must come
/// in the order of <see cref="Order"/>, which keeps the declared order and only cuts it into shards.
/// </summary>
public sealed class HfFolderWriter : IDisposable
{
    /// <summary>transformers' own shard size.</summary>
    public const long DefaultShardBytes = 5_000_000_000;

    /// <summary>Files that make a tokenizer, copied from a source folder where they exist.</summary>
    public static IReadOnlyList<string> TokenizerFiles { get; } =
    [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
        "tokenizer.model", "tokenizer.bin", "vocab.txt", "chat_template.jinja", "chat_template.json", "generation_config.json",
    ];

    private readonly string _folder;
    private readonly List<SafetensorsSpec[]> _shards;
    private readonly IReadOnlyDictionary<string, string>? _metadata;
    private readonly Dictionary<string, int> _shardOf = new(StringComparer.Ordinal);
    private SafetensorsWriter? _current;
    private int _shard = -1;

    /// <summary>Starts writing into an existing folder (see <see cref="OutputFolder"/>).</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="tensors">All tensors, in the order in which they will come.</param>
    /// <param name="maxShardBytes">Most bytes of tensors in one file; a larger tensor gets a file of its own.</param>
    /// <param name="metadata">Texts for each file's <c>__metadata__</c>.</param>
    public HfFolderWriter(string folder, IEnumerable<SafetensorsSpec> tensors, long maxShardBytes = DefaultShardBytes, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxShardBytes);
        _folder = folder;
        _metadata = metadata;
        _shards = Cut(tensors, maxShardBytes);
        for (int shard = 0; shard < _shards.Count; shard++)
        {
            foreach (SafetensorsSpec spec in _shards[shard])
            {
                if (!_shardOf.TryAdd(spec.Name, shard))
                {
                    throw new ArgumentException($"safetensors: tensor '{spec.Name}' is declared twice");
                }
            }
        }
    }

    /// <summary>The order in which shards want their tensors; inside one shard any order will do.</summary>
    public IEnumerable<string> Order => _shards.SelectMany(shard => shard).Select(spec => spec.Name);

    /// <summary>Writes a whole tensor.</summary>
    public unsafe void Append(string name, Tensor tensor)
    {
        Open(name).Append(name, tensor.HostPointer, tensor.ByteLength);
        GC.KeepAlive(tensor);
    }

    /// <summary>Writes the next bytes of a tensor.</summary>
    public void Append(string name, ReadOnlySpan<byte> bytes) => Open(name).Append(name, bytes);

    /// <summary>Writes config.json.</summary>
    public void WriteConfig(JsonElement config) => WriteJson("config.json", json => config.WriteTo(json));

    /// <summary>Copies the tokenizer's files, and whatever else is named, from another model's folder.</summary>
    public void CopyFiles(string sourceFolder, params IEnumerable<string> more)
    {
        foreach (string name in TokenizerFiles.Concat(more).Distinct())
        {
            string source = Path.Combine(sourceFolder, name);
            if (File.Exists(source))
            {
                AtomicFile.Copy(source, Path.Combine(_folder, name));
            }
        }
    }

    /// <summary>Completes the last shard and writes the index, the record that the weights are whole.</summary>
    public void Commit()
    {
        CloseShard();
        if (_shard != _shards.Count - 1)
        {
            throw new InvalidOperationException($"safetensors: {_shards.Count - 1 - _shard} shards of {_folder} were not written");
        }

        if (_shards.Count > 1)
        {
            WriteJson(HfShards.IndexName, WriteIndex);
        }
    }

    /// <summary>Deletes the unfinished shard, if any.</summary>
    public void Dispose() => _current?.Dispose();

    private static List<SafetensorsSpec[]> Cut(IEnumerable<SafetensorsSpec> tensors, long maxShardBytes)
    {
        List<SafetensorsSpec[]> shards = [];
        List<SafetensorsSpec> shard = [];
        long bytes = 0;
        foreach (SafetensorsSpec spec in tensors)
        {
            if (shard.Count > 0 && spec.ByteLength > maxShardBytes - bytes)
            {
                shards.Add([.. shard]);
                shard.Clear();
                bytes = 0;
            }

            shard.Add(spec);
            bytes += spec.ByteLength;
        }

        shards.Add([.. shard]);
        return shards;
    }

    private string ShardName(int shard) => _shards.Count == 1 ? HfShards.SingleName : $"model-{shard + 1:D5}-of-{_shards.Count:D5}.safetensors";

    private SafetensorsWriter Open(string name)
    {
        if (!_shardOf.TryGetValue(name, out int shard))
        {
            throw new ArgumentException($"safetensors: tensor '{name}' was not declared for {_folder}");
        }

        while (_shard < shard)
        {
            CloseShard();
            _shard++;
            _current = SafetensorsWriter.Create(Path.Combine(_folder, ShardName(_shard)), _shards[_shard], _metadata);
        }

        return _shard == shard && _current != null
            ? _current
            : throw new InvalidOperationException($"safetensors: tensor '{name}' belongs to shard {shard + 1}, which is closed already");
    }

    private void CloseShard()
    {
        _current?.Commit();
        _current?.Dispose();
        _current = null;
    }

    private void WriteIndex(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteStartObject("metadata");
        json.WriteNumber("total_size", _shards.Sum(shard => shard.Sum(spec => spec.ByteLength)));
        json.WriteEndObject();
        json.WriteStartObject("weight_map");
        foreach ((string name, int shard) in _shardOf.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            json.WriteString(name, ShardName(shard));
        }

        json.WriteEndObject();
        json.WriteEndObject();
    }

    private void WriteJson(string name, Action<Utf8JsonWriter> write)
    {
        using MemoryStream buffer = new();
        using (Utf8JsonWriter json = new(buffer, new JsonWriterOptions { Indented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            write(json);
        }

        buffer.WriteByte((byte)'\n');
        AtomicFile.WriteAllBytes(Path.Combine(_folder, name), buffer.GetBuffer().AsSpan(0, (int)buffer.Length));
    }
}
