using Nibble.Backends;
using Nibble.Backends.Cuda;
using Nibble.Backends.Cuda.Driver;
using Nibble.Backends.Cuda.Quantization;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tests.Kernels;

namespace Nibble.Tests.Cuda;

/// <summary>What the backend takes of a card and of the host, and gives back.</summary>
public class CudaMemoryTests
{
    [Fact]
    public void ASlotOfTheHostGrowsAndIsUsedAgainByShorterOnes()
    {
        using CudaBackend backend = new(new EmulatedDevice());
        using CudaOffload offload = backend.Offload();
        foreach ((int count, int bytes) in new[] { (8, 32), (20, 80), (4, 80), (20, 80), (40, 160) })
        {
            using Tensor values = KernelData.Random(new Shape(count), count), source = values.Upload(backend), target = Rent(backend, new Shape(count), DType.F32);
            offload.Out(1, source);
            offload.In(1, target);
            offload.Wait();
            Assert.Equal(values.HostSpan<float>().ToArray(), backend.Memory.Download<float>((CudaStorage)target.Storage));
            Assert.Equal(bytes, offload.ByteLength);
        }
    }

    [Fact]
    public void AMatrixForWhichThereIsNoRoomHoldsNothing()
    {
        using EmulatedDevice device = new();
        using CachingAllocator allocator = new(device, limit: 9 << 20);
        CachingMemory memory = new(device, allocator);
        // The values fit, the codes don't.
        Assert.Throws<NibbleException>(() => CudaMatrix.Empty(memory, 1024, 2048));
        Assert.Equal(0, allocator.UsedBytes);
    }

    [Fact]
    public void WhatTheCollectorTakesIsNotGivenToOthersWhileQueuedWorkMayUseIt()
    {
        using CudaBackend backend = new(new EmulatedDevice());
        long used = backend.Memory.Allocator.UsedBytes;
        WeakReference forgotten = Forget(backend);
        for (int i = 0; i < 5 && forgotten.IsAlive; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.False(forgotten.IsAlive);
        Assert.True(backend.Memory.Allocator.UsedBytes > used);

        // Disposed of, it is there for whoever queues next.
        Tensor once = backend.AllocateUndefined(new Shape(3000), DType.F32);
        nint address = CudaStorage.AddressOf(once);
        once.Dispose();
        using Tensor again = backend.AllocateUndefined(new Shape(3000), DType.F32);
        Assert.Equal(address, CudaStorage.AddressOf(again));
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static WeakReference Forget(CudaBackend backend) => new(backend.AllocateUndefined(new Shape(1000), DType.F32).Storage);

    [SkippableFact]
    public void AStepWithCallsForOnePlaceIsNotRecorded()
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using CudaBackend backend = new(new EmulatedDevice() { Records = true }, DType.BF16);
        using Tensor x = KernelData.Random(new Shape(1, 2, 16), 1), own = x.Upload(backend), cache = Rent(backend, new Shape(1, 2, 8, 16 + sizeof(float)), DType.U8);
        IStepRecorder recorder = backend;
        long used = backend.Memory.Allocator.UsedBytes;
        Assert.Null(recorder.Record(() => backend.Kernels.AppendToCache(own, cache, 3)));
        Assert.Equal(used, backend.Memory.Allocator.UsedBytes);
        using IRecordedStep? other = recorder.Record(() => { });
        Assert.NotNull(other);
    }

    [SkippableFact]
    public void CountersThatARecordingMadeAreZerosAfterwards()
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        using CudaBackend backend = new(new EmulatedDevice() { Records = true }, DType.BF16);
        // Columns enough for two parts.
        using Tensor values = KernelData.Random(new Shape(32, 1024), 1), half = values.To(DType.BF16), x = KernelData.Random(new Shape(12, 1024), 2), own = x.Upload(backend);
        using Tensor others = KernelData.Random(new Shape(12, 1024), 3), other = others.Upload(backend);
        using Tensor y = Rent(backend, new Shape(12, 32), DType.F32), again = Rent(backend, new Shape(12, 32), DType.F32);
        using IPackedWeight weight = backend.Prepare(half);
        IStepRecorder recorder = backend;
        using IRecordedStep? step = recorder.Record(() => backend.Kernels.MatMul(own, weight, null, y));
        Assert.NotNull(step);
        // Parts that are joined too early are those of the call before.
        backend.Kernels.MatMul(other, weight, null, y);
        backend.Kernels.MatMul(other, weight, null, again);
        float[] first = backend.Memory.Download<float>((CudaStorage)y.Storage);
        Assert.All(first, value => Assert.True(float.IsFinite(value)));
        Assert.Equal(first, backend.Memory.Download<float>((CudaStorage)again.Storage));
    }

    [SkippableTheory]
    [InlineData(1)]
    [InlineData(100 * 20 * sizeof(int))]
    public void SumsOfIntegersInPartsAreThoseOfAll(int bytes)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        CudaBackend cuda = new(new EmulatedDevice() { HasGroupProducts = false });
        cuda.Int8.MostSumBytes = bytes;
        using MirrorCheckBackend backend = new(cuda);
        Int8Checks.All.First(check => check.Name == "llm.int8 with injected outliers").Run(backend);
    }

    /// <summary>Each block may round up to eight rows by itself, though from three on one launch for all is faster on an H100.</summary>
    [SkippableTheory]
    [InlineData(0)]
    [InlineData(8)]
    public void FewRowsAreRoundedByEachBlockOrOnce(int most)
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        CudaBackend cuda = new(new EmulatedDevice(), DType.BF16);
        cuda.Int8.MostFewRows = most;
        using MirrorCheckBackend backend = new(cuda);
        foreach (KernelCheck check in Int8Checks.All.Where(check => check.Name.StartsWith("llm.int8", StringComparison.Ordinal) || check.Name.EndsWith("8 bits, symmetric, one group a row", StringComparison.Ordinal)))
        {
            check.Run(backend);
        }
    }

    /// <summary>Rows that are too many for a block's memory take the ways of more rows.</summary>
    [SkippableFact]
    public void CardsWithLittleSharedMemoryMultiplyFewRowsToo()
    {
        Skip.If(HostKernels.Problem is not null, HostKernels.Problem);
        const int Rows = 8, Columns = 3584;
        using AffineWeight weight = PackingCheckData.Affine(20, Columns, new Random(1), 8, Columns, offsets: 's');
        using Tensor x = KernelData.Random(new Shape(Rows, Columns), 2, scale: 2), values = KernelData.Random(new Shape(20, Columns), 3), half = values.To(DType.BF16);
        x.HostSpan<float>()[7] = 9;
        float[][][] results = [.. new[] { 227, 48 }.Select(kib =>
        {
            EmulatedDevice device = new();
            using CudaBackend backend = new(new EmulatedDevice() { Facts = device.Facts with { SharedBytes = kib << 10 } }, DType.BF16);
            using Tensor own = x.Upload(backend), y = Rent(backend, new Shape(Rows, 20), DType.F32);
            using IPackedWeight integers = backend.PrepareInt8(weight, 6), floats = backend.Prepare(half);
            return new[] { integers, floats }.Select(packed =>
            {
                backend.Kernels.MatMul(own, packed, null, y);
                return backend.Memory.Download<float>((CudaStorage)y.Storage);
            }).ToArray();
        })];
        for (int way = 0; way < 2; way++)
        {
            float largest = results[0][way].Max(Math.Abs);
            Assert.All(results[0][way].Zip(results[1][way]), pair => Assert.InRange(pair.Second, pair.First - (1e-4f * largest), pair.First + (1e-4f * largest)));
        }
    }

    private static Tensor Rent(CudaBackend backend, Shape shape, DType dtype) => new(shape, dtype, backend.Memory.Rent(shape.Count * (dtype == DType.U8 ? 1 : sizeof(float)), "tensors"));
}
