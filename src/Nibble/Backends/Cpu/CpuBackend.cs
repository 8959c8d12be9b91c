using Nibble.Backends.Cpu.BFloat16;
using Nibble.Backends.Cpu.Packings;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Backends.Cpu;

/// <summary>Choices for <see cref="CpuBackend"/>; null means the environment variable, and without one the best for this machine.</summary>
/// <param name="Threads">Threads, the caller's included (NIBBLE_THREADS; default one per processor).</param>
/// <param name="Kernels">Kernel variant (NIBBLE_KERNELS; default the fastest that the processor supports).</param>
/// <param name="Compute">Numbers in which products of many rows multiply: F32, or BF16 (both sides rounded, sums in F32).</param>
public sealed record CpuOptions(int? Threads = null, string? Kernels = null, DType Compute = DType.F32);

/// <summary>The processor as a backend. Kernels run when they are called; nothing is ever pending.</summary>
public sealed class CpuBackend : IBackend
{
    private readonly CpuVariant _variant;
    private readonly CpuThreads _threads;

    /// <summary>Chooses threads and kernels.</summary>
    /// <exception cref="NibbleException">A variant or a number of threads that can't be used was asked for.</exception>
    public CpuBackend(CpuOptions? options = null)
        : this(
            options?.Kernels is { } kernels ? CpuVariant.Select(kernels) : CpuVariant.Choose(),
            CpuThreads.Choose(options?.Threads),
            options?.Compute ?? DType.F32)
    {
    }

    /// <summary>For tests: any variant, even one that this processor only computes in software.</summary>
    internal CpuBackend(CpuVariant variant, int threads, DType compute = DType.F32)
    {
        if (compute is not (DType.F32 or DType.BF16))
        {
            Throw.Argument("cpu", $"products multiply in F32 or BF16, not {compute}");
        }

        _variant = variant;
        _threads = CpuThreads.Shared(threads);
        Compute = compute;
        BFloat16Kernels? half = compute == DType.BF16 ? variant.BFloat16 : null;
        Kernels = variant.CreateKernels(_threads, half);
        Gradients = variant.CreateGradients(_threads, half);
    }

    /// <inheritdoc/>
    public string Name => "cpu";

    /// <summary>The kernels.</summary>
    internal CpuVariant Variant => _variant;

    /// <inheritdoc/>
    public string KernelVariant => _variant.Name;

    /// <inheritdoc/>
    public int Threads => _threads.Count;

    /// <inheritdoc/>
    public DType Compute { get; }

    /// <inheritdoc/>
    public IKernels Kernels { get; }

    /// <inheritdoc/>
    public IGradientKernels Gradients { get; }

    /// <inheritdoc/>
    public Tensor Allocate(Shape shape, DType dtype) => Tensor.OnHost(shape, dtype);

    /// <inheritdoc/>
    public void CopyFromHost(ReadOnlySpan<byte> source, Tensor destination)
    {
        source.CopyTo(Bytes(destination, source.Length));
        Operands.Hold(destination);
    }

    /// <inheritdoc/>
    public void CopyToHost(Tensor source, Span<byte> destination)
    {
        Bytes(source, destination.Length).CopyTo(destination);
        Operands.Hold(source);
    }

    /// <inheritdoc/>
    public void Synchronize()
    {
    }

    /// <inheritdoc/>
    public IPackedWeight Prepare(Tensor weight)
    {
        IPackedWeight packed = _variant.PackDense(weight, _threads);
        Operands.Hold(weight);
        return packed;
    }

    /// <inheritdoc/>
    public IPackedWeight Prepare(QuantizedWeight weight, ActivationType activations)
    {
        IPackedWeight packed = CpuPackings.Create(weight, activations, _variant, _threads);
        Operands.Hold(weight);
        return packed;
    }

    /// <inheritdoc/>
    public IPackedWeight PrepareInt8(AffineWeight weight, float threshold)
    {
        IPackedWeight packed = CpuPackings.CreateInt8(weight, threshold, _variant, _threads);
        Operands.Hold(weight);
        return packed;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
    }

    private static unsafe Span<byte> Bytes(Tensor tensor, int count)
    {
        if (count != tensor.ByteLength)
        {
            Throw.Argument("copy", $"{count} bytes on the host for {tensor.DType} {tensor.Shape}, which has {tensor.ByteLength}");
        }

        return new Span<byte>(tensor.HostPointer, count);
    }
}
