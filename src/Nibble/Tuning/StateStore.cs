using Microsoft.Win32.SafeHandles;
using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>Where the states of an optimizer are between steps.</summary>
internal abstract class StateStore : IDisposable
{
    /// <summary>Bytes in memory.</summary>
    public abstract long ByteLength { get; }

    /// <summary>A store of zeros.</summary>
    /// <param name="backend">Where the states are used.</param>
    /// <param name="specs">The states of each parameter.</param>
    /// <param name="paged">Keep them in a file; those of a card in pinned memory of the host.</param>
    public static StateStore Create(IBackend backend, StateSpec[][] specs, bool paged) => paged switch
    {
        false => new MemoryStates(backend, specs),
        true when backend is CudaBackend card => new PinnedStates(card, specs),
        true => new FileStates(backend, specs),
    };

    /// <summary>The states of a parameter, valid until <see cref="Return"/> or the next call.</summary>
    public abstract Tensor[] Take(int parameter);

    /// <summary>Keeps what the states of a parameter have become.</summary>
    public abstract void Return(int parameter);

    public abstract void Dispose();

    /// <summary>All states stay in the backend's memory.</summary>
    private sealed class MemoryStates(IBackend backend, StateSpec[][] specs) : StateStore
    {
        private readonly Tensor[][] _states = [.. specs.Select(states => states.Select(state => backend.Allocate(new Shape(state.Count), state.DType)).ToArray())];

        public override long ByteLength => _states.Sum(states => states.Sum(state => (long)state.ByteLength));

        public override Tensor[] Take(int parameter) => _states[parameter];

        public override void Return(int parameter)
        {
        }

        public override void Dispose() => Array.ForEach(_states, states => Array.ForEach(states, state => state.Dispose()));
    }

    /// <summary>
    /// All states stand in one file without a name, which is gone with the process; memory holds those of one parameter at a time.
    /// Whether their pages are really on the disk or in the system's file cache is the system's choice.
    /// </summary>
    private sealed class FileStates : StateStore
    {
        private readonly IBackend _backend;
        private readonly StateSpec[][] _specs;
        private readonly long[] _places;
        private readonly SafeFileHandle _file;
        private readonly Tensor _memory;
        private readonly byte[] _bytes;
        private Tensor[] _taken = [];

        public FileStates(IBackend backend, StateSpec[][] specs)
        {
            (_backend, _specs) = (backend, specs);
            long[] sizes = [.. specs.Select(states => states.Sum(Bytes))];
            _places = new long[sizes.Length];
            for (int i = 1; i < sizes.Length; i++)
            {
                _places[i] = _places[i - 1] + sizes[i - 1];
            }

            nint largest = (nint)sizes.DefaultIfEmpty(0).Max();
            _memory = backend.Allocate(new Shape(largest), DType.U8);
            _bytes = new byte[checked((int)largest)];
            string path = Path.Combine(Path.GetTempPath(), $"nibble-states-{Environment.ProcessId}-{Guid.NewGuid():N}");
            long whole = sizes.Sum();
            _file = AtomicFile.Attempt(path, whole, () =>
            {
                SafeFileHandle file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Delete, FileOptions.DeleteOnClose);
                RandomAccess.SetLength(file, whole);
                return file;
            });
            if (!OperatingSystem.IsWindows())
            {
                // An open file without a name: nothing can be left behind, however the process ends.
                File.Delete(path);
            }
        }

        public override long ByteLength => (long)_memory.ByteLength + _bytes.Length;

        public override Tensor[] Take(int parameter)
        {
            Span<byte> bytes = _bytes.AsSpan(0, (int)_specs[parameter].Sum(Bytes));
            int read = RandomAccess.Read(_file, bytes, _places[parameter]);
            if (read != bytes.Length)
            {
                Throw.Failed("the file of optimizer states is shorter than it was", "another program has cut it", "run again");
            }

            if (bytes.Length > 0)
            {
                _backend.CopyFromHost(bytes, _memory.Slice(0, bytes.Length));
            }

            nint offset = 0;
            _taken = [.. _specs[parameter].Select(state =>
            {
                Tensor view = new(new Shape(state.Count), state.DType, _memory.Storage, _memory.ByteOffset + offset, ownsStorage: false);
                offset += (nint)Bytes(state);
                return view;
            })];
            return _taken;
        }

        public override void Return(int parameter)
        {
            int count = (int)_specs[parameter].Sum(Bytes);
            if (count > 0)
            {
                _backend.CopyToHost(_memory.Slice(0, count), _bytes.AsSpan(0, count));
                AtomicFile.Attempt(Path.GetTempPath(), count, () => RandomAccess.Write(_file, _bytes.AsSpan(0, count), _places[parameter]));
            }
        }

        public override void Dispose()
        {
            _memory.Dispose();
            _file.Dispose();
        }

        // Rounded up, so that every state is aligned.
        private static long Bytes(StateSpec state) => (((long)state.Count * state.DType.Size()) + 63) / 64 * 64;
    }
}
