using Nibble.Benchmarks;
using Nibble.Tensors;

namespace Nibble.Tests.Benchmarks;

/// <summary>The limit that decoding is measured against.</summary>
public class RawReadTests
{
    [Fact]
    public void Memory_to_read_is_written_in_every_page()
    {
        // A page that nobody wrote is the system's page of zeros, and read from the cache.
        using Tensor data = RawRead.Memory((4 << 20) + 1);
        Assert.Equal(1025, data.HostSpan<byte>().Count((byte)1));
        for (int page = 0; page < data.ByteLength; page += 4096)
        {
            Assert.Equal(1, data.HostSpan<byte>()[page]);
        }
    }
}
