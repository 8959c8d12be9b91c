using System.Runtime.InteropServices;
using Nibble.IO;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>A card behind the driver API: one stream, modules and functions by name, memory by address.</summary>
internal sealed unsafe class CudaDevice : ICudaDevice
{
    private const int FreeSharedBytes = 32 << 10;

    [ThreadStatic]
    private static nint _current;

    private readonly ContextHandle _context;
    private readonly StreamHandle _stream;
    private readonly CudaStaging _staging;
    private readonly KernelCompiler _compiler;
    private readonly Dictionary<string, ModuleHandle> _modules = [];
    private readonly Dictionary<KernelName, nint> _functions = [];
    private readonly Dictionary<KernelName, int> _sharedBytes = [];
    private readonly Dictionary<nint, MemoryHandle> _memory = [];
    private readonly Dictionary<nint, PinnedHandle> _pinned = [];
    private readonly bool _overlaps;
    private CublasLt? _products;
    private CudnnAttention? _attention;
    private StreamHandle? _beside;
    private EventHandle? _mark;
    private bool _askedForAttention;
    private nint _workspace;

    private CudaDevice(int device)
    {
        CudaErrors.Check(DriverApi.cuDevicePrimaryCtxRetain(out nint context, device), "cuDevicePrimaryCtxRetain");
        _context = new ContextHandle(context, device);
        Facts = CudaCards.Facts(device);
        PciBusId = CudaCards.PciBusId(device);
        // Recorded too from CUDA 12.3 on.
        _overlaps = Facts.Major >= 9 && Facts.DriverVersion >= 12030;
        Enter();
        CudaErrors.Check(DriverApi.cuStreamCreate(out nint stream, DriverApi.StreamNonBlocking), "cuStreamCreate");
        _stream = new StreamHandle(stream);
        _staging = new CudaStaging(_stream);
        _compiler = new KernelCompiler(Facts.Architecture, Facts.DriverVersion);
        HasGroupProducts = KernelCompiler.HasGroupProducts(Facts.Architecture);
    }

    public CudaFacts Facts { get; }

    public bool HasGroupProducts { get; }

    /// <summary>Where the card is, for NVML.</summary>
    public string PciBusId { get; }

    /// <summary>Opens a card by its number.</summary>
    public static CudaDevice Open(int ordinal)
    {
        CudaCards.RequireDriver();
        if (!KernelCompiler.IsAvailable)
        {
            Throw.NotFound(
                "NVRTC was not found: Nibble compiles its kernels for the card at hand",
                $"looked for {string.Join(", ", CudaLibraries.Nvrtc.Names)}",
                $"install CUDA 12 or 13, or the Python wheel nvidia-cuda-nvrtc; {CudaLibraries.FoldersVariable} names its folder");
        }

        int count = CudaCards.Count();
        if (ordinal < 0 || ordinal >= count)
        {
            Throw.NotFound($"there is no cuda:{ordinal}", $"the driver shows {count} card(s), numbered from 0", "nibble devices lists them; CUDA_VISIBLE_DEVICES hides some");
        }

        CudaErrors.Check(DriverApi.cuDeviceGet(out int device, ordinal), "cuDeviceGet");
        return new CudaDevice(device);
    }

    public nint TryAllocate(nint bytes)
    {
        Enter();
        int code = DriverApi.cuMemAlloc_v2(out nint address, (nuint)bytes);
        if (code == CudaErrors.OutOfMemory)
        {
            return 0;
        }

        CudaErrors.Check(code, "cuMemAlloc");
        _memory.Add(address, new MemoryHandle(address));
        return address;
    }

    public void Free(nint address)
    {
        Enter();
        if (_memory.Remove(address, out MemoryHandle? handle))
        {
            handle.Dispose();
        }
    }

    public (long Free, long Total) Memory()
    {
        Enter();
        CudaErrors.Check(DriverApi.cuMemGetInfo_v2(out nuint free, out nuint total), "cuMemGetInfo");
        return ((long)free, (long)total);
    }

    public void Upload(void* source, nint destination, nint bytes)
    {
        Enter();
        _staging.Upload((byte*)source, destination, bytes);
    }

    public void Download(nint source, void* destination, nint bytes)
    {
        Enter();
        _staging.Download(source, (byte*)destination, bytes);
    }

    public nint AllocatePinned(nint bytes)
    {
        Enter();
        PinnedHandle handle = PinnedHandle.Allocate(bytes);
        NativeMemory.Clear(handle.Pointer, (nuint)bytes);
        _pinned.Add((nint)handle.Pointer, handle);
        return (nint)handle.Pointer;
    }

    public void FreePinned(nint address)
    {
        Enter();
        if (_pinned.Remove(address, out PinnedHandle? handle))
        {
            handle.Dispose();
        }
    }

    public void CopyIn(nint pinned, nint destination, nint bytes)
    {
        Enter();
        CudaErrors.Check(DriverApi.cuMemcpyHtoDAsync_v2(destination, (void*)pinned, (nuint)bytes, _stream), "cuMemcpyHtoDAsync");
    }

    public void CopyOut(nint source, nint pinned, nint bytes)
    {
        Enter();
        CudaErrors.Check(DriverApi.cuMemcpyDtoHAsync_v2((void*)pinned, source, (nuint)bytes, _stream), "cuMemcpyDtoHAsync");
    }

    public void CopyOutBeside(nint source, nint pinned, nint bytes) =>
        CudaErrors.Check(DriverApi.cuMemcpyDtoHAsync_v2((void*)pinned, source, (nuint)bytes, Beside()), "cuMemcpyDtoHAsync");

    public void CopyInBeside(nint pinned, nint destination, nint bytes) =>
        CudaErrors.Check(DriverApi.cuMemcpyHtoDAsync_v2(destination, (void*)pinned, (nuint)bytes, Beside()), "cuMemcpyHtoDAsync");

    public void WaitBeside()
    {
        if (_beside is not null)
        {
            Enter();
            CudaErrors.Check(DriverApi.cuEventRecord(_mark!, _beside), "cuEventRecord");
            CudaErrors.Check(DriverApi.cuStreamWaitEvent(_stream, _mark!, 0), "cuStreamWaitEvent");
        }
    }

    // The second queue, with everything that the first has so far before it. A wait holds what a mark was when the wait was queued.
    private StreamHandle Beside()
    {
        Enter();
        if (_beside is null)
        {
            CudaErrors.Check(DriverApi.cuStreamCreate(out nint stream, DriverApi.StreamNonBlocking), "cuStreamCreate");
            (_beside, _mark) = (new StreamHandle(stream), NewEvent());
        }

        CudaErrors.Check(DriverApi.cuEventRecord(_mark!, _stream), "cuEventRecord");
        CudaErrors.Check(DriverApi.cuStreamWaitEvent(_beside, _mark!, 0), "cuStreamWaitEvent");
        return _beside;
    }

    public void Copy(nint source, nint destination, nint bytes)
    {
        Enter();
        CudaErrors.Check(DriverApi.cuMemcpyDtoDAsync_v2(destination, source, (nuint)bytes, _stream), "cuMemcpyDtoDAsync");
    }

    public void Clear(nint destination, nint bytes)
    {
        Enter();
        CudaErrors.Check(DriverApi.cuMemsetD8Async(destination, 0, (nuint)bytes, _stream), "cuMemsetD8Async");
    }

    public void Launch(KernelName kernel, LaunchShape shape, ReadOnlySpan<KernelArgument> arguments)
    {
        Enter();
        nint function = Function(kernel, shape.SharedBytes);
        void** addresses = stackalloc void*[arguments.Length];
        fixed (KernelArgument* first = arguments)
        {
            KernelArgument.Addresses(first, arguments.Length, addresses);
            CudaErrors.Check(
                shape.Overlaps && _overlaps
                    ? LaunchOverlapping(function, shape, addresses)
                    : DriverApi.cuLaunchKernel(
                        function, checked((uint)shape.X), (uint)shape.Y, 1, (uint)shape.Threads, 1, 1, (uint)shape.SharedBytes, _stream, addresses, null),
                $"cuLaunchKernel of {kernel.Name} with {shape.X} × {shape.Y} blocks of {shape.Threads} threads");
        }
    }

    public StageMap MapStages(nint matrix, nint rows, nint columns, int tileRows)
    {
        Enter();
        // The driver wants it at a multiple of 64 bytes.
        byte* memory = stackalloc byte[sizeof(StageMap) + 64];
        StageMap* map = (StageMap*)(((nint)memory + 63) & ~63);
        ulong* sizes = stackalloc ulong[2] { (ulong)columns, (ulong)rows };
        ulong stride = (ulong)columns * sizeof(ushort);
        uint* box = stackalloc uint[2] { 64, (uint)tileRows }, steps = stackalloc uint[2] { 1, 1 };
        CudaErrors.Check(
            DriverApi.cuTensorMapEncodeTiled(
                map, DriverApi.MapBFloat16, 2, matrix, sizes, &stride, box, steps, 0, DriverApi.MapSwizzle128, DriverApi.MapPromotion128, 0),
            $"cuTensorMapEncodeTiled of {rows} × {columns}");
        return *map;
    }

    public bool Has(in GemmCall call)
    {
        Enter();
        _products ??= new CublasLt();
        return _products.Has(call);
    }

    public void Multiply(in GemmCall call)
    {
        Enter();
        _products ??= new CublasLt();
        if (_workspace == 0)
        {
            _workspace = TryAllocate(CublasLt.WorkspaceBytes);
            CudaErrors.Check(_workspace == 0 ? CudaErrors.OutOfMemory : 0, $"cuMemAlloc of {CublasLt.WorkspaceBytes:N0} bytes for cuBLASLt");
        }

        _products.Multiply(call, _workspace, _stream.Value);
    }

    public CudnnAttention? Attention
    {
        get
        {
            if (!_askedForAttention)
            {
                Enter();
                (_attention, _askedForAttention) = (CudnnAttention.TryOpen(_stream.Value), true);
            }

            return _attention;
        }
    }

    public void Attend(in FlashShape shape, in AttentionAddresses addresses, bool backward, nint workspace)
    {
        Enter();
        Attention!.Run(shape, addresses, backward, workspace);
    }

    public RecordedWork? Record(Action queue)
    {
        Enter();
        // Relaxed: memory may be taken meanwhile.
        CudaErrors.Check(DriverApi.cuStreamBeginCapture_v2(_stream, DriverApi.CaptureRelaxed), "cuStreamBeginCapture");
        nint graph;
        try
        {
            queue();
        }
        finally
        {
            CudaErrors.Check(DriverApi.cuStreamEndCapture(_stream, out graph), "cuStreamEndCapture");
        }

        CudaErrors.Check(DriverApi.cuGraphInstantiateWithFlags(out nint executable, graph, 0), "cuGraphInstantiate");
        DriverApi.cuGraphDestroy(graph);
        GraphHandle handle = new(executable);
        return new RecordedWork(
            () =>
            {
                Enter();
                CudaErrors.Check(DriverApi.cuGraphLaunch(handle, _stream), "cuGraphLaunch");
            },
            handle);
    }

    public void Synchronize()
    {
        Enter();
        CudaErrors.Check(DriverApi.cuStreamSynchronize(_stream), "cuStreamSynchronize");
    }

    /// <summary>Seconds that queued work takes on the card, by its own clock.</summary>
    public double Time(Action queue)
    {
        Enter();
        using EventHandle start = NewEvent(), end = NewEvent();
        CudaErrors.Check(DriverApi.cuEventRecord(start, _stream), "cuEventRecord");
        queue();
        CudaErrors.Check(DriverApi.cuEventRecord(end, _stream), "cuEventRecord");
        CudaErrors.Check(DriverApi.cuEventSynchronize(end), "cuEventSynchronize");
        CudaErrors.Check(DriverApi.cuEventElapsedTime(out float milliseconds, start, end), "cuEventElapsedTime");
        return milliseconds / 1e3;
    }

    public void Dispose()
    {
        Enter();
        _products?.Dispose();
        _attention?.Dispose();
        _attention = null;
        _mark?.Dispose();
        _beside?.Dispose();
        _staging.Dispose();
        foreach (SafeHandle handle in _memory.Values.Concat<SafeHandle>(_modules.Values).Concat(_pinned.Values))
        {
            handle.Dispose();
        }

        _memory.Clear();
        _modules.Clear();
        _stream.Dispose();
        _context.Dispose();
    }

    private int LaunchOverlapping(nint function, LaunchShape shape, void** arguments)
    {
        LaunchAttribute overlaps = new() { Id = LaunchAttribute.Overlaps, Value = 1 };
        LaunchConfig config = new()
        {
            GridX = checked((uint)shape.X), GridY = (uint)shape.Y, GridZ = 1, BlockX = (uint)shape.Threads, BlockY = 1, BlockZ = 1,
            SharedBytes = (uint)shape.SharedBytes, Stream = _stream.Value, Attributes = &overlaps, AttributeCount = 1,
        };
        return DriverApi.cuLaunchKernelEx(&config, function, arguments, null);
    }

    private static EventHandle NewEvent()
    {
        CudaErrors.Check(DriverApi.cuEventCreate(out nint handle, 0), "cuEventCreate");
        return new EventHandle(handle);
    }

    // The driver's calls work on the context of the calling thread.
    private void Enter()
    {
        if (_current != _context.Value)
        {
            CudaErrors.Check(DriverApi.cuCtxSetCurrent(_context.Value), "cuCtxSetCurrent");
            _current = _context.Value;
        }
    }

    private nint Function(KernelName kernel, int sharedBytes)
    {
        if (!_functions.TryGetValue(kernel, out nint function))
        {
            CudaErrors.Check(DriverApi.cuModuleGetFunction(out function, Module(kernel.Source), kernel.Symbol), $"cuModuleGetFunction of {kernel.Name}");
            _functions.Add(kernel, function);
        }

        // A kernel may have 16 KiB of static shared memory besides: together no more than every card gives without being asked.
        if (sharedBytes > FreeSharedBytes && sharedBytes > _sharedBytes.GetValueOrDefault(kernel))
        {
            CudaErrors.Check(
                DriverApi.cuFuncSetAttribute(function, DriverApi.MaxDynamicSharedBytes, sharedBytes), $"cuFuncSetAttribute of {kernel.Name} to {sharedBytes:N0} bytes of shared memory");
            _sharedBytes[kernel] = sharedBytes;
        }

        return function;
    }

    private ModuleHandle Module(string source)
    {
        if (!_modules.TryGetValue(source, out ModuleHandle? module))
        {
            // PTX is text and must end with a zero byte.
            byte[] image = [.. _compiler.Compile(source), 0];
            fixed (byte* pointer = image)
            {
                CudaErrors.Check(DriverApi.cuModuleLoadData(out nint handle, pointer), $"cuModuleLoadData of {source}");
                module = new ModuleHandle(handle);
            }

            _modules.Add(source, module);
        }

        return module;
    }
}
