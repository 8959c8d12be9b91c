using Nibble.Backends.Cuda.Driver;
using Nibble.IO;

namespace Nibble.Tests.Cuda;

public class CachingAllocatorTests
{
    [Fact]
    public void MemoryIsUsedAgainAndCounted()
    {
        using EmulatedDevice device = new();
        using CachingAllocator allocator = new(device);
        nint first = allocator.Allocate(1000, "tensors");
        Assert.Equal(1024, allocator.UsedBytes);
        allocator.Free(first);
        Assert.Equal((0, 1024, 1024), (allocator.UsedBytes, allocator.PeakBytes, allocator.ReservedBytes));
        Assert.Equal(first, allocator.Allocate(900, "tensors"));
        Assert.NotEqual(first, allocator.Allocate(900, "tensors"));
        Assert.Equal(2048, allocator.PeakBytes);
        Assert.Equal(2, device.Blocks);
    }

    [Fact]
    public void ABlockThatIsMuchTooLargeIsNotTaken()
    {
        using EmulatedDevice device = new();
        using CachingAllocator allocator = new(device);
        allocator.Free(allocator.Allocate(8 << 20, "tensors"));
        allocator.Allocate(2 << 20, "tensors");
        Assert.Equal(10 << 20, allocator.ReservedBytes);
        allocator.Trim();
        Assert.Equal(2 << 20, allocator.ReservedBytes);
        Assert.Equal(1, device.Blocks);
    }

    [Fact]
    public void OutOfMemorySaysWhoHasIt()
    {
        using EmulatedDevice device = new();
        using CachingAllocator allocator = new(device, limit: 10 << 20);
        allocator.Allocate(6 << 20, "weights");
        allocator.Allocate(2 << 20, "tensors");
        NibbleException error = Assert.Throws<NibbleException>(() => allocator.Allocate(5 << 20, "activations"));
        Assert.Equal(ErrorKind.Resource, error.Kind);
        foreach (string part in new[] { "6,291,456 bytes for activations", "8,388,608", "(6,291,456) for weights", "10,485,760", CachingAllocator.LimitVariable, "--device cpu" })
        {
            Assert.Contains(part, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void KeptBlocksAreGivenUpBeforeAnError()
    {
        using EmulatedDevice device = new();
        using CachingAllocator allocator = new(device, limit: 10 << 20);
        allocator.Free(allocator.Allocate(6 << 20, "weights"));
        allocator.Allocate(10 << 20, "tensors");
        Assert.Equal(10 << 20, allocator.ReservedBytes);
    }

    [Fact]
    public void GivingBackTwiceIsAnError()
    {
        using EmulatedDevice device = new();
        using CachingAllocator allocator = new(device);
        nint address = allocator.Allocate(1, "tensors");
        allocator.Free(address);
        Assert.Throws<InvalidOperationException>(() => allocator.Free(address));
    }
}
