using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text;
using Nibble.Tokenization;

namespace Nibble.Bench.Benches;

/// <summary>
/// Tokenizers on English and on code, on one core, in megabytes of UTF-8 per second: first sight (nothing remembered when the
/// text begins) and warm (the same text again). Time is the processor time that this process used, which is what "per core" means
/// on a machine that others use too. Texts and vocabularies beyond the embedded ones come from a folder
/// <c>shared</c> beside the repository, where there is one. With <c>--output</c> texts and ids are written for
/// bench/peers/hf_tokenizers.py, which measures huggingface/tokenizers on them and compares the ids.
/// </summary>
internal static class TokenizerBench
{
    public static void Run(BenchOptions options, BenchReport report)
    {
        (string Name, string Text)[] texts = [.. Texts()];
        bool compiled = false;
        foreach ((string name, string? file) in new[]
        {
            ("embedded 8,192", Find("assets/nibble-gpt2-10m/tokenizer.json")),
            ("GPT-2", Find("shared/data/tokenizers/gpt2/vocab.json")),
            ("LLaMA-2", Find("shared/data/tokenizers/llama2/tokenizer.json")),
            ("LLaMA-3", Find("shared/data/tokenizers/llama3/tokenizer.model")),
        })
        {
            if (file == null)
            {
                continue;
            }

            report.Add($"{name}, load", [.. Rounds(options.Rounds, () => TokenizerLoader.FromFile(file)).Select(time => time * 1e3)], "ms");
            PipelineTokenizer tokenizer = (PipelineTokenizer)TokenizerLoader.FromFile(file);
            foreach ((string textName, string text) in texts)
            {
                if (!compiled)
                {
                    // The runtime compiles hot methods again in the background; that is not to be counted.
                    Clock.Time(() => tokenizer.Encode(text), 1.5);
                    compiled = true;
                }

                Measure(options.Rounds, report, $"{name}, {textName}", tokenizer, text);
                if (options.Output is string folder)
                {
                    Write(Path.Combine(folder, $"{name}, {textName}"), tokenizer, text);
                }
            }
        }
    }

    private static void Measure(int rounds, BenchReport report, string name, PipelineTokenizer tokenizer, string text)
    {
        double megabytes = Encoding.UTF8.GetByteCount(text) / 1e6;
        List<int> ids = [];
        void Encode()
        {
            ids.Clear();
            tokenizer.Encode(text, ids, addSpecialTokens: false);
        }

        void FirstSight()
        {
            tokenizer.Forget();
            Encode();
        }

        report.Add($"{name}, first sight", [.. Rounds(rounds, FirstSight).Select(time => megabytes / time)], "MB/s");
        report.Add($"{name}, warm", [.. Rounds(rounds, Encode).Select(time => megabytes / time)], "MB/s");
        report.Add($"{name}, decode", [.. Rounds(rounds, () => tokenizer.DecodeToBytes(ids.ToArray())).Select(time => megabytes / time)], "MB/s");
    }

    private static void Write(string path, PipelineTokenizer tokenizer, string text)
    {
        List<int> ids = [];
        tokenizer.Encode(text, ids, addSpecialTokens: false);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path + ".txt", text);
        File.WriteAllBytes(path + ".ids", MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(ids)).ToArray());
    }

    /// <summary>Seconds of processor time per call, round by round, after one call and a tenth of a second of warm-up.</summary>
    private static double[] Rounds(int rounds, Action body)
    {
        Clock.Time(body, 0.1);
        double[] times = new double[rounds];
        for (int round = 0; round < rounds; round++)
        {
            TimeSpan start = Environment.CpuUsage.TotalTime;
            body();
            times[round] = (Environment.CpuUsage.TotalTime - start).TotalSeconds;
        }

        return times;
    }

    private static IEnumerable<(string Name, string Text)> Texts()
    {
        if (Find("assets/text/test.txt") is string code)
        {
            yield return ("Python", File.ReadAllText(code));
        }

        if (Find("shared/data/wikitext2/wiki.test.raw.gz") is string english)
        {
            using StreamReader reader = new(new GZipStream(File.OpenRead(english), CompressionMode.Decompress));
            yield return ("English", reader.ReadToEnd());
        }

        // Words that never come again: the merge loop alone, without help from the cache.
        Random random = new(1);
        yield return ("random words", string.Concat(Enumerable.Range(0, 100_000).Select(_ => " " + Word(random))));
    }

    private static string Word(Random random) =>
        string.Create(random.Next(3, 10), random, (letters, source) => source.GetItems("abcdefghijklmnopqrstuvwxyz", letters));

    private static string? Find(string relative)
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder != null; folder = folder.Parent)
        {
            string path = Path.Combine(folder.FullName, relative);
            if (File.Exists(path))
            {
                return path;
            }
        }

        return null;
    }
}
