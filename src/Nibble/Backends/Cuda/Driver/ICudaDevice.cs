using System.Runtime.CompilerServices;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>What a card is.</summary>
/// <param name="Name">As the driver tells it.</param>
/// <param name="Major">Compute capability before the dot.</param>
/// <param name="Minor">Compute capability after the dot.</param>
/// <param name="Multiprocessors">Number of multiprocessors.</param>
/// <param name="MemoryBytes">Memory of the card.</param>
/// <param name="DriverVersion">CUDA version that the driver supports, 1000·major + 10·minor.</param>
/// <param name="SharedBytes">Shared memory that a block may have if it asks.</param>
internal sealed record CudaFacts(string Name, int Major, int Minor, int Multiprocessors, long MemoryBytes, int DriverVersion, int SharedBytes)
{
    /// <summary>For example <c>sm_90</c>.</summary>
    public string Architecture => $"sm_{Major}{Minor}";
}

/// <summary>
/// Blocks of a launch, threads of a block, and bytes of dynamic shared memory. A launch that overlaps may begin while the kernel before it
/// still runs; such kernels wait by themselves (<c>await_previous</c>) before they read what others wrote, and before they write.
/// </summary>
internal readonly record struct LaunchShape(long X, int Threads, int Y = 1, int SharedBytes = 0, bool Overlaps = false);

/// <summary>A kernel: the source that holds it, and its name there.</summary>
internal readonly record struct KernelName(string Source, string Name)
{
    /// <summary>Its name in machine code: <c>KERNEL</c> of <c>common.cuh</c>.</summary>
    public string Symbol => "nibble_" + Name;
}

/// <summary>The end of a product; GELU is the approximation by tanh, cuBLASLt's only one.</summary>
internal enum GemmEnd
{
    /// <summary>Sums and bias are the result.</summary>
    Plain,

    /// <summary>GELU of sums and bias.</summary>
    Gelu,

    /// <summary>The sums times the slope of GELU at other numbers: a gradient's way back through it.</summary>
    GeluSlope,
}

/// <summary>
/// D (±)= op(A)·op(B) + bias, column-major as cuBLAS has it: D is <c>[M, N]</c> of <paramref name="Result"/>, op(A) <c>[M, K]</c>, op(B)
/// <c>[K, N]</c>, both of <paramref name="Type"/>; the bias has M values of the result's type and is added to each column.
/// </summary>
internal readonly record struct GemmCall(
    nint A, nint B, nint D, nint Bias, long M, long N, long K, bool TransposeA, bool TransposeB, long StrideA, long StrideB, long StrideD,
    DType Type, bool Add, DType Result = DType.F32)
{
    /// <summary>The product's negative is taken.</summary>
    public bool Negative { get; init; }

    /// <summary>α and β of D = α·op(A)·op(B) + β·C, in F32, without a bias; null: ±1, and 0 or 1 as <see cref="Add"/> says.</summary>
    public (float Alpha, float Beta)? Factors { get; init; }

    /// <summary>C of <see cref="Factors"/>, of D's type and shape; 0 is D itself.</summary>
    public nint C { get; init; }

    /// <summary>Products of one shape, if more than one: matrices stand <see cref="StepA"/>, <see cref="StepB"/> and <see cref="StepD"/> elements apart.</summary>
    public int Count { get; init; } = 1;

    /// <summary>Elements from one A to the next.</summary>
    public long StepA { get; init; }

    /// <summary>Elements from one B to the next.</summary>
    public long StepB { get; init; }

    /// <summary>Elements from one C and D to the next.</summary>
    public long StepD { get; init; }

    /// <summary>What happens to the sums before they are rounded.</summary>
    public GemmEnd End { get; init; }

    /// <summary>What <see cref="GemmEnd.GeluSlope"/> reads: of D's type and shape, its columns <see cref="StrideD"/> apart.</summary>
    public nint Aux { get; init; }

    /// <summary>All matrices hold double precision, whatever <see cref="Type"/> says; no bias.</summary>
    public bool Double { get; init; }
}

/// <summary>A matrix of BF16 as copies of a kernel know it: <c>StageMap</c> of <c>wgmma.cuh</c>, which the driver makes.</summary>
[InlineArray(16)]
internal struct StageMap
{
    private ulong _word;
}

/// <summary>Recorded work: queues all of it at once; what it holds is given back by disposing of it.</summary>
internal sealed record RecordedWork(Action Queue, IDisposable Held);

/// <summary>
/// The part of CUDA that the backend uses, in one place: the driver implements it, and a test that runs kernels on the processor does
/// too. All work goes to one stream, in order.
/// </summary>
internal unsafe interface ICudaDevice : IDisposable
{
    CudaFacts Facts { get; }

    /// <summary>True if kernels may multiply by warpgroups (<c>wgmma.cuh</c>).</summary>
    bool HasGroupProducts { get; }

    /// <summary>Takes memory, or returns 0 if there is not enough.</summary>
    nint TryAllocate(nint bytes);

    /// <summary>Gives memory back, once the queued work is done with it.</summary>
    void Free(nint address);

    /// <summary>Free and total bytes of the card.</summary>
    (long Free, long Total) Memory();

    /// <summary>Rows of a matrix of BF16, of a multiple of 8 columns and at a multiple of 16 bytes, as stages of 64 columns and some rows.</summary>
    StageMap MapStages(nint matrix, nint rows, nint columns, int tileRows);

    /// <summary>Copies from the host; the source may change when the call returns.</summary>
    void Upload(void* source, nint destination, nint bytes);

    /// <summary>Waits for the queue, then copies to the host.</summary>
    void Download(nint source, void* destination, nint bytes);

    /// <summary>Takes zeroed memory of the host from which, and to which, the card copies by itself.</summary>
    nint AllocatePinned(nint bytes);

    /// <summary>Gives such memory back; the queue must be done with it.</summary>
    void FreePinned(nint address);

    /// <summary>Queues a copy from pinned memory of the host.</summary>
    void CopyIn(nint pinned, nint destination, nint bytes);

    /// <summary>Queues a copy to pinned memory of the host.</summary>
    void CopyOut(nint source, nint pinned, nint bytes);

    /// <summary>The same as <see cref="CopyOut"/> on a queue of its own, after what is queued so far; see <see cref="WaitBeside"/>.</summary>
    void CopyOutBeside(nint source, nint pinned, nint bytes) => CopyOut(source, pinned, bytes);

    /// <summary>The same as <see cref="CopyIn"/> on that queue.</summary>
    void CopyInBeside(nint pinned, nint destination, nint bytes) => CopyIn(pinned, destination, bytes);

    /// <summary>What is queued from now on waits for the other queue's copies so far.</summary>
    void WaitBeside()
    {
    }

    /// <summary>Copies on the card.</summary>
    void Copy(nint source, nint destination, nint bytes);

    /// <summary>Sets bytes to 0.</summary>
    void Clear(nint destination, nint bytes);

    /// <summary>Queues a kernel.</summary>
    void Launch(KernelName kernel, LaunchShape shape, ReadOnlySpan<KernelArgument> arguments);

    /// <summary>True if cuBLASLt has an algorithm for a product: of those with an end of their own it lacks some.</summary>
    bool Has(in GemmCall call);

    /// <summary>Queues a matrix product.</summary>
    void Multiply(in GemmCall call);

    /// <summary>cuDNN's attention; null where it is missing, or kept out.</summary>
    CudnnAttention? Attention => null;

    /// <summary>Queues a call of attention that <see cref="Attention"/> takes.</summary>
    void Attend(in FlashShape shape, in AttentionAddresses addresses, bool backward, nint workspace) => throw new NotSupportedException("attention by cuDNN");

    /// <summary>Records what an action queues, without running it: the returned action queues all of it at once. Null where a device can't.</summary>
    RecordedWork? Record(Action queue);

    /// <summary>Waits for the queue.</summary>
    void Synchronize();
}
