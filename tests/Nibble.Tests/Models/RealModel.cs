using System.IO.Compression;
using System.Text.Json;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Formats;
using Nibble.Models;

namespace Nibble.Tests.Models;

/// <summary>A small trained model of the shared data, with its reference values.</summary>
internal sealed class RealModel : IDisposable
{
    private readonly TempFolder? _unpacked;
    private readonly CpuBackend _backend = new();
    private readonly IWeightSource _weights;

    public RealModel(string name)
    {
        string? folder = TestData.Shared("data/models/" + name);
        string? golden = TestData.Shared("data/models/golden_logits.json");
        Skip.If(folder is null || golden is null, $"the shared data (data/models/{name}) is not beside the repository");
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(golden!));
        Golden = document.RootElement.TryGetProperty(name, out JsonElement element) ? element.Clone() : default;
        if (File.Exists(Path.Combine(folder!, "model.safetensors.gz")))
        {
            folder = Unpack(folder!, _unpacked = new TempFolder());
        }

        HfFolder opened = HfFolder.Open(folder!);
        _weights = new DenseWeightSource(opened, Registry.Architecture(opened.Config));
        Model = ModelBuilder.Build(opened.Config, _weights, _backend);
        Folder = folder!;
    }

    public string Folder { get; }

    public CausalModel Model { get; }

    public JsonElement Golden { get; }

    public int[] Ids => [.. Golden.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];

    public void Dispose()
    {
        Model.Dispose();
        _weights.Dispose();
        _backend.Dispose();
        _unpacked?.Dispose();
    }

    private static string Unpack(string folder, TempFolder target)
    {
        File.Copy(Path.Combine(folder, "config.json"), target["config.json"]);
        using FileStream packed = File.OpenRead(Path.Combine(folder, "model.safetensors.gz"));
        using GZipStream gzip = new(packed, CompressionMode.Decompress);
        using FileStream file = File.Create(target["model.safetensors"]);
        gzip.CopyTo(file);
        return target.Path;
    }
}
