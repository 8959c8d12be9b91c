using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Tensors;

namespace Nibble.Tests.Tensors;

/// <summary>Memory of training passes whose lengths keep changing.</summary>
public class BufferPoolTests
{
    [Fact]
    public void ManySizesShareAFewBuffers()
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        using BufferPool pool = new(backend);
        Random random = new(3);
        for (int i = 0; i < 500; i++)
        {
            int count = random.Next(100, 10_000);
            Tensor[] rented = [.. Enumerable.Range(0, 3).Select(_ => pool.Rent(new Shape(count), zeroed: true))];
            Assert.All(rented, tensor => Assert.True(tensor.Shape.Count == count && tensor.HostSpan<float>().IndexOfAnyExcept(0f) < 0));
            Assert.Equal(3, rented.Select(tensor => tensor.Storage).Distinct().Count());
            foreach (Tensor tensor in rented)
            {
                tensor.HostSpan<float>().Fill(1);
                pool.Return(tensor);
            }
        }

        // Three of each of the sizes 10,000, 5,000, 2,500 … would be 240 kB.
        Assert.InRange(pool.PeakBytes, 3 * 9_000 * 4, 3 * 20_000 * 4);
        Assert.Throws<InvalidOperationException>(() => pool.Return(Tensor.OnHost(new Shape(3), DType.F32)));
    }

    [Fact]
    public void AWorkspaceGivesUpWhatIsTooSmallAndNothingThatIsInUse()
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        using Workspace workspace = new(backend, chunkBytes: 1024);
        using Workspace.Scope scope = workspace.Begin();
        Tensor empty = workspace.Rent(new Shape(0, 8)), first = workspace.Rent(new Shape(200));
        first.HostSpan<float>().Fill(3);
        nint kept = workspace.ByteLength;
        for (int size = 1024; size <= 8192; size *= 2)
        {
            using Workspace.Scope inner = workspace.Begin();
            workspace.Rent(new Shape(size));
            Assert.Equal(kept + (size * sizeof(float)), workspace.ByteLength);
        }

        for (int size = 8192; size <= 32768; size *= 2)
        {
            using Workspace.Scope inner = workspace.Begin();
            Tensor second = workspace.Rent(new Shape(size)), small = workspace.Rent(new Shape(0)), third = workspace.Rent(new Shape(500));
            second.HostSpan<float>().Fill(4);
            third.HostSpan<float>().Fill(5);
            workspace.Rent(new Shape(3 * size)).HostSpan<float>().Fill(6);
            Assert.Equal(-1, second.HostSpan<float>().IndexOfAnyExcept(4f));
            Assert.Equal(-1, third.HostSpan<float>().IndexOfAnyExcept(5f));
            Assert.True(small.HostSpan<float>().IsEmpty);
        }

        // Empty tensors stand in pieces too.
        Assert.True(empty.HostSpan<float>().IsEmpty);
        Assert.Equal(-1, first.HostSpan<float>().IndexOfAnyExcept(3f));
        nint most = workspace.ByteLength;
        for (int round = 0; round < 6; round++)
        {
            using Workspace.Scope inner = workspace.Begin();
            workspace.Rent(new Shape(round % 2 == 0 ? 32768 : 1000));
            workspace.Rent(new Shape(3 * 32768));
            Assert.Equal(most, workspace.ByteLength);
        }
    }

    [Fact]
    public void AnEmptyTensorAtTheStartKeepsItsPiece()
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        using Workspace workspace = new(backend, chunkBytes: 1024);
        using Workspace.Scope scope = workspace.Begin();
        Tensor empty = workspace.Rent(new Shape(0, 8));
        workspace.Rent(new Shape(1000));
        Assert.True(empty.HostSpan<float>().IsEmpty);
    }

    [Fact]
    public void AWorkspaceStopsGrowingHoweverShapesChange()
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 1));
        using Workspace workspace = new(backend, chunkBytes: 1024);
        Random random = new(5);
        for (int i = 0; i < 500; i++)
        {
            using Workspace.Scope scope = workspace.Begin();
            int size = random.Next(100, 10_000);
            Tensor first = workspace.Rent(new Shape(size)), second = workspace.Rent(new Shape(size / 2)), third = workspace.Rent(new Shape(size / 3));
            first.HostSpan<float>().Fill(1);
            second.HostSpan<float>().Fill(2);
            third.HostSpan<float>().Fill(3);
            Assert.True(first.HostSpan<float>().IndexOfAnyExcept(1f) < 0 && second.HostSpan<float>().IndexOfAnyExcept(2f) < 0);
        }

        Assert.InRange(workspace.ByteLength, 40_000, 2 * 74_000);
    }
}
