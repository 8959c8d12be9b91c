using Nibble.Data.Rows;
using Nibble.Data.Sources;
using Nibble.Formats.Parquet;
using Nibble.IO;
using Xunit;

namespace Nibble.Tests.Formats.Parquet;

/// <summary>Damaged files are refused with a message, whatever the damage; nothing large is allocated for them.</summary>
public class HostileParquetTests
{
    private static readonly string Folder = Path.Combine(TestData.Goldens, "parquet");

    private static readonly Limits Small = Limits.Default with { ParquetPageBytes = 1 << 20, ParquetPageValues = 1 << 16 };

    public static TheoryData<string> Names => ["plain", "dictionary-snappy", "gzip-v2", "delta", "nested", "brotli"];

    [Theory]
    [MemberData(nameof(Names))]
    public void EveryTruncationIsRefused(string name)
    {
        byte[] whole = File.ReadAllBytes(Path.Combine(Folder, name + ".parquet"));
        for (int length = 0; length < whole.Length; length += 17)
        {
            Assert.Equal(ErrorKind.BadInput, Assert.Throws<NibbleException>(() => Read(whole[..length])).Kind);
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void EveryChangedByteIsReadOrRefused(string name)
    {
        byte[] whole = File.ReadAllBytes(Path.Combine(Folder, name + ".parquet"));
        for (int i = 0; i < whole.Length; i += 11)
        {
            foreach (byte value in new byte[] { 0xFF, 0x00, (byte)(whole[i] ^ 0x10) })
            {
                byte[] changed = [.. whole];
                changed[i] = value;
                try
                {
                    Read(changed);
                }
                catch (NibbleException error)
                {
                    Assert.Equal(ErrorKind.BadInput, error.Kind);
                }
            }
        }
    }

    [Fact]
    public void LyingSizesAreRefusedBeforeMemoryIsTaken()
    {
        byte[] whole = File.ReadAllBytes(Path.Combine(Folder, "plain.parquet"));
        foreach (uint size in new uint[] { uint.MaxValue, int.MaxValue, (uint)whole.Length })
        {
            byte[] changed = [.. whole];
            BitConverter.GetBytes(size).CopyTo(changed, whole.Length - 8);
            Assert.Contains("footer", Assert.Throws<NibbleException>(() => Read(changed)).Message, StringComparison.Ordinal);
        }

        Assert.Contains("PAR1", Assert.Throws<NibbleException>(() => Read(new byte[100])).Message, StringComparison.Ordinal);
        Assert.Contains("encrypted", Assert.Throws<NibbleException>(() => Read([.. new byte[96], .. "PARE"u8])).Message, StringComparison.Ordinal);
    }

    /// <summary>A map in a map in a map … in two bytes each: reading them one inside the other would end the process.</summary>
    [Fact]
    public void DeeplyNestedMetadataIsRefused()
    {
        byte[] footer = [0x1B, .. Enumerable.Repeat(new byte[] { 1, 0xBB }, 200_000).SelectMany(pair => pair)];
        byte[] bytes = [.. "PAR1"u8, .. footer, .. BitConverter.GetBytes(footer.Length), .. "PAR1"u8];
        Assert.Contains("nested too deeply", Assert.Throws<NibbleException>(() => Read(bytes)).Message, StringComparison.Ordinal);
    }

    private static void Read(byte[] bytes)
    {
        foreach (RowRead row in ParquetRows.Read(new MemoryObject("x.parquet", bytes), Small))
        {
            Assert.NotNull(row.Fields);
        }
    }

    private sealed class MemoryObject(string name, byte[] bytes) : DataObject
    {
        public override string Name => name;

        public override long Length => bytes.Length;

        public override Stream Open(long from = 0)
        {
            MemoryStream stream = new(bytes, writable: false);
            stream.Seek(from, SeekOrigin.Begin);
            return stream;
        }
    }
}
