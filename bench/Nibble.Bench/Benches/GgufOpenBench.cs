using System.Buffers.Binary;
using System.Text;
using Nibble.Formats;

namespace Nibble.Bench.Benches;

/// <summary>Opening GGUF files: one with a vocabulary of 128,256 tokens, one of 4 GB whose tensors are a hole in the file.</summary>
internal static class GgufOpenBench
{
    private const int Vocabulary = 128_256, Merges = 280_147, Alignment = 32;

    // 64 matrices of 5632 × 5632 in F16: 4.06 GB.
    private const int Matrices = 64, Side = 5632;

    public static void Run(BenchOptions options, BenchReport report)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("nibble-gguf-");
        try
        {
            string words = Path.Combine(folder.FullName, "words.gguf"), large = Path.Combine(folder.FullName, "large.gguf");
            Write(words, WordMetadata(), 1);
            Write(large, Metadata(), Matrices);
            Time(report, options, "vocabulary of 128,256: open", 0.5, () => GgufFile.Open(words).Dispose());
            Time(report, options, "vocabulary of 128,256: open, read tokens and merges", 0.5, () =>
            {
                using GgufFile file = GgufFile.Open(words);
                GgufTokens.Of(file.Metadata);
            });
            Time(report, options, $"{new FileInfo(large).Length / 1e9:F2} GB: open", 1, () => GgufFile.Open(large).Dispose());
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static void Time(BenchReport report, BenchOptions options, string name, double limit, Action open)
    {
        double[] times = [.. Clock.Rounds(options.Rounds, open)[0]];
        report.Add(name, [.. times.Select(time => time * 1000)], "ms");
        report.Check($"{name} < {limit} s", BenchReport.Median(times) < limit ? null : "too slow");
    }

    private static GgufMetadataWriter Metadata()
    {
        GgufMetadataWriter data = new();
        data.Text("general.architecture", "llama");
        return data;
    }

    private static GgufMetadataWriter WordMetadata()
    {
        GgufMetadataWriter data = Metadata();
        string[] tokens = [.. Enumerable.Range(0, Vocabulary).Select(i => $"token{i}")];
        data.Text("tokenizer.ggml.model", "gpt2");
        data.Text("tokenizer.ggml.pre", "llama-bpe");
        data.Texts("tokenizer.ggml.tokens", tokens);
        data.I32s("tokenizer.ggml.token_type", [.. Enumerable.Repeat(1, Vocabulary)]);
        data.Texts("tokenizer.ggml.merges", [.. Enumerable.Range(0, Merges).Select(i => $"token{i % Vocabulary} token{i / 3}")]);
        return data;
    }

    /// <summary>A header, and a length that reaches to the end of the tensors: the file system stores nothing for them.</summary>
    private static void Write(string path, GgufMetadataWriter metadata, int matrices)
    {
        using FileStream stream = File.Create(path);
        const long bytes = (long)Side * Side * 2;
        stream.Write("GGUF"u8);
        Put(stream, 3, 4);
        Put(stream, matrices, 8);
        Put(stream, metadata.Count, 8);
        stream.Write(metadata.Bytes);
        for (int i = 0; i < matrices; i++)
        {
            byte[] name = Encoding.UTF8.GetBytes($"blk.{i}.ffn_up.weight");
            Put(stream, name.Length, 8);
            stream.Write(name);
            Put(stream, 2, 4);
            Put(stream, Side, 8);
            Put(stream, Side, 8);
            Put(stream, (int)GgufType.F16, 4);
            Put(stream, i * bytes, 8);
        }

        long start = (stream.Position + Alignment - 1) / Alignment * Alignment;
        stream.SetLength(start + (matrices * bytes));
    }

    private static void Put(FileStream stream, long value, int bytes)
    {
        Span<byte> buffer = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(buffer, value);
        stream.Write(buffer[..bytes]);
    }
}
