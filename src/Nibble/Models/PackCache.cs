using System.Globalization;
using System.Text;
using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cpu.PackCache;
using Nibble.Backends.Cpu.Packings;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Nn;
using Nibble.Quantization;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>What became of a model's packed weights.</summary>
/// <param name="State"><c>mapped</c>: from a file; <c>written</c>: packed, and kept in a file; <c>off</c>: packed, and not kept.</param>
/// <param name="Path">The file; null if there is none.</param>
/// <param name="Bytes">Its size.</param>
/// <param name="Reason">Why the weights were packed again, or why they are not kept.</param>
public sealed record PackCacheReport(string State, string? Path = null, long Bytes = 0, string? Reason = null);

/// <summary>
/// Weights as the processor's kernels read them, in a file beside the model: the first start packs and writes it, later ones map it. The
/// file belongs to these very model files, this build and this kind of processor, else it is refused and made again.
/// </summary>
internal sealed class PackCache : IWeightSource
{
    /// <summary>The folder beside a model.</summary>
    public const string FolderName = ".nibble-cache";

    /// <summary><see cref="LoadOptions.PackCache"/>: in <see cref="FolderName"/> beside the model.</summary>
    public const string Beside = "beside";

    /// <summary>No file.</summary>
    public const string Off = "off";

    private const string Extension = ".packed";

    // Smaller models are packed faster than anybody could notice.
    private const long LeastBytes = 64 << 20;

    // What a disk keeps free beside the file.
    private const long SpareDiskBytes = 1 << 30;

    private readonly IWeightSource _inner;
    private readonly CpuVariant _variant;
    private readonly string _path;
    private readonly string _key;
    private readonly PackFile? _file;
    private readonly string? _problem;
    private readonly List<(string Name, CpuPacking Packing)> _packed = [];
    private Task<PackCacheReport>? _writing;

    private PackCache(IWeightSource inner, CpuBackend backend, string path, string key)
    {
        (_inner, _variant, _path, _key) = (inner, backend.Variant, path, key);
        _file = PackFile.Open(path, key, CpuThreads.Shared(backend.Threads), out _problem);
    }

    /// <inheritdoc/>
    public string Source => _inner.Source;

    /// <inheritdoc/>
    public IReadOnlyCollection<string> Names => _inner.Names;

    /// <summary>The cache that the options ask for, or null where none is of use.</summary>
    public static PackCache? Open(ModelSource source, LoadOptions options, IBackend backend)
    {
        bool isAsked = options.PackCache is { } place && place != Off && options.Quantization is null && !options.Trainable && !options.FromScratch && options.Labels is null;
        if (!isAsked || backend is not CpuBackend cpu || source.WeightBytes < (options.LeastPackedBytes ?? LeastBytes))
        {
            return null;
        }

        string folder = options.PackCache == Beside ? System.IO.Path.Combine(Folder(source.Path), FolderName) : options.PackCache!;
        string name = $"{cpu.Variant.Isa.ToString().ToLowerInvariant()}-{options.Activations.ToString().ToLowerInvariant()}-{options.Dtype?.ToString().ToLowerInvariant() ?? "stored"}";
        string model = options.PackCache == Beside && Directory.Exists(source.Path) ? string.Empty : Stem(source.Path, options.PackCache != Beside);
        return new PackCache(source.Weights, cpu, System.IO.Path.Combine(folder, model + name + Extension), Key(name, source.Files));
    }

    /// <inheritdoc/>
    public Shape? ShapeOf(string name) => _inner.ShapeOf(name);

    /// <inheritdoc/>
    public Tensor Tensor(string name) => _inner.Tensor(name);

    /// <inheritdoc/>
    public string? Problem(LinearSpec spec) => _inner.Problem(spec);

    /// <inheritdoc/>
    public IPackedWeight Linear(LinearSpec spec, IBackend backend)
    {
        if (_file?.Find(spec.Path) is { } reader)
        {
            return CpuPackings.Open(reader, _variant);
        }

        IPackedWeight packed = _inner.Linear(spec, backend);
        if (packed is CpuPacking packing)
        {
            _packed.Add((spec.Path, packing));
        }

        return packed;
    }

    /// <inheritdoc/>
    RepairTerm? IWeightSource.Repair(LinearSpec spec, IBackend backend) => _inner.Repair(spec, backend);

    /// <inheritdoc/>
    StaticActivations? IWeightSource.Activations(LinearSpec spec) => _inner.Activations(spec);

    /// <summary>Once the model is built: writes what had to be packed, aside of everything else.</summary>
    public void Keep()
    {
        if (_file is null)
        {
            _writing = Task.Factory.StartNew(Write, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }
    }

    /// <summary>What became of it; waits for the file.</summary>
    public PackCacheReport Finish() => _file is not null
        ? new PackCacheReport("mapped", _path, _file.ByteLength)
        : _writing?.GetAwaiter().GetResult() ?? new PackCacheReport(Off, Reason: "the model was not built");

    /// <summary>Closes the file. The packings are their model's, which goes first; so are the weights their source's.</summary>
    public void Dispose()
    {
        Finish();
        _file?.Dispose();
    }

    private static string Folder(string path) => Directory.Exists(path) ? path : System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!;

    // One folder can serve many models: the whole path tells them apart.
    private static string Stem(string path, bool isShared)
    {
        string full = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path));
        string stem = System.IO.Path.GetFileName(full);
        return isShared ? $"{stem}-{PackSum.Of(Encoding.UTF8.GetBytes(full)):x16}-" : stem + "-";
    }

    /// <summary>Everything that packed weights depend on: this build, the choices in the name, and the model's files by size, time and samples.</summary>
    private static string Key(string name, IReadOnlyList<string> files)
    {
        StringBuilder key = new();
        key.Append(CultureInfo.InvariantCulture, $"{typeof(PackCache).Module.ModuleVersionId:N} {name} {Environment.Version}");
        foreach (string path in files)
        {
            key.Append('\n').Append(FileSample.WithTime(path));
        }

        return key.ToString();
    }

    private PackCacheReport Write()
    {
        try
        {
            string folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(_path))!;
            CreateFolder(folder);
            List<PackBlock> blocks = [];
            List<(string, byte[])> packings = [];
            foreach ((string name, CpuPacking packing) in _packed)
            {
                PackWriter writer = new(blocks);
                CpuPackings.Save(packing, writer);
                packings.Add((name, writer.Index));
            }

            long bytes = blocks.Sum(block => (long)block.Storage.ByteLength);
            if (AtomicFile.FreeBytes(_path) is { } free && free < bytes + SpareDiskBytes)
            {
                return new PackCacheReport(Off, _path, Reason: $"{bytes:N0} bytes and a spare GB are more than the {free:N0} that the disk has free");
            }

            return new PackCacheReport("written", _path, PackFile.Write(_path, _key, packings, blocks), _problem);
        }
        catch (Exception error) when (error is NibbleException or IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            return new PackCacheReport(Off, _path, Reason: error is NibbleException known ? $"{known.What}: {known.Why}" : error.Message);
        }
    }

    // Tools that back up or commit folders know these two files.
    private static void CreateFolder(string folder)
    {
        if (Directory.Exists(folder))
        {
            return;
        }

        Directory.CreateDirectory(folder);
        AtomicFile.WriteAllText(System.IO.Path.Combine(folder, ".gitignore"), "*\n");
        AtomicFile.WriteAllText(System.IO.Path.Combine(folder, "CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n# Packed weights of Nibble (docs/generate.md): may be deleted at any time.\n");
    }
}
