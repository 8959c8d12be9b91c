using Nibble.Evaluation.Metrics;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tokenization;

namespace Nibble.Certificates;

/// <summary>What a verification found.</summary>
/// <param name="Certificate">The certificate, which holds.</param>
/// <param name="Source">The source that was compared with; null if it was not at hand, and only the export's half was computed again.</param>
public sealed record Verification(Certificate Certificate, string? Source);

/// <summary>The source's half of a certificate.</summary>
/// <param name="Prompt">The tokens.</param>
/// <param name="Logits">The logits of every token, row after row.</param>
/// <param name="Sha256">The hash of its files.</param>
internal sealed record CertifiedSource(int[] Prompt, float[] Logits, string Sha256);

/// <summary>Makes and checks certificates. Matrices are read one at a time: memory does not grow with the model.</summary>
public static class Certifier
{
    private const int MostTokens = 64;

    // The same kernels give the same bits; another variant sums in another order, and LLM.int8 may then round an activation otherwise.
    private const double SameKernels = 1e-6, OtherKernels = 5e-3;

    private const string Prompt =
        "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n\n"
        + "The quick brown fox jumps over the lazy dog. In 1905, Albert Einstein published four papers.";

    /// <summary>Compares an export with its source.</summary>
    /// <exception cref="NibbleException">One of them computes something that is no number.</exception>
    public static Certificate Make(string source, string export) => Make(source, export, SourceOf(source));

    /// <summary>What a certificate says about the source; it can be had before there is an export.</summary>
    internal static CertifiedSource SourceOf(string source)
    {
        Task<string> hash = Task.Run(() => ModelHash.Of(source));
        (int[] ids, float[] logits, _) = Run(source, null);
        return new(ids, logits, hash.GetAwaiter().GetResult());
    }

    /// <summary>The same with a source that was looked at before.</summary>
    internal static Certificate Make(string source, string export, CertifiedSource known)
    {
        Task<string> hash = Task.Run(() => ModelHash.Of(export));
        (int[] ids, float[] expected, string sourceHash) = known;
        (_, float[] actual, string kernels) = Run(export, ids);
        int width = expected.Length / ids.Length;
        int same = Enumerable.Range(0, ids.Length).Count(row => Divergence.Best(Row(expected, row, width)) == Divergence.Best(Row(actual, row, width)));
        return new Certificate
        {
            Source = Hub.HubCache.Called(source),
            SourceSha256 = sourceHash,
            OutputSha256 = hash.GetAwaiter().GetResult(),
            Prompt = ids,
            LargestLogitDifference = expected.Zip(actual, (one, other) => Math.Abs((double)one - other)).Max(),
            LogitRange = (double)expected.Max() - expected.Min(),
            SameBest = same,
            Best = [.. Enumerable.Range(0, ids.Length).Select(row => BestOf(Row(actual, row, width)))],
            Kernels = kernels,
        };
    }

    /// <summary>Computes a certificate again.</summary>
    /// <param name="export">A folder or GGUF file that Nibble wrote.</param>
    /// <param name="source">What it was made from; null: looked for by name beside the export, in the current folder, and among the models that come with Nibble.</param>
    /// <exception cref="NibbleException">It does not hold: <see cref="ErrorKind.Failed"/>.</exception>
    public static Verification Verify(string export, string? source = null)
    {
        Certificate certificate = Certificate.Read(export);
        if (ModelHash.Of(export) is var hash && hash != certificate.OutputSha256)
        {
            Fail(export, $"its files hash to {hash}, the certificate says {certificate.OutputSha256}", "they were changed after the export");
        }

        string? found = source ?? Candidates(export, certificate.Source).FirstOrDefault(path => Path.Exists(path) && ModelHash.Of(path) == certificate.SourceSha256);
        if (found is null)
        {
            VerifyExport(export, certificate);
            return new Verification(certificate, null);
        }

        if (source is not null && ModelHash.Of(source) != certificate.SourceSha256)
        {
            Fail(export, $"{source} is not the model that it was made from ('{certificate.Source}')", "its files hash to something else");
        }

        VerifyBoth(export, found, certificate);
        return new Verification(certificate, found);
    }

    private static void VerifyExport(string export, Certificate certificate)
    {
        (_, float[] logits, string kernels) = Run(export, [.. certificate.Prompt]);
        int width = logits.Length / certificate.Prompt.Count;
        double most = Tolerance(certificate, kernels);
        for (int row = 0; row < certificate.Prompt.Count; row++)
        {
            BestLogit best = certificate.Best[row];
            double off = best.Token < 0 || best.Token >= width ? double.PositiveInfinity : Math.Abs(Row(logits, row, width)[best.Token] - (double)best.Logit);
            if (off > most)
            {
                Fail(export, $"the logit of token {best.Token} at position {row} is off by {off:G4}", $"{most:G3} is allowed between kernels {certificate.Kernels} and {kernels}");
            }
        }
    }

    private static void VerifyBoth(string export, string source, Certificate certificate)
    {
        VerifyExport(export, certificate);
        (_, float[] expected, _) = Run(source, [.. certificate.Prompt]);
        (_, float[] actual, string kernels) = Run(export, [.. certificate.Prompt]);
        double difference = expected.Zip(actual, (one, other) => Math.Abs((double)one - other)).Max();
        if (Math.Abs(difference - certificate.LargestLogitDifference) is var off && !(off <= Tolerance(certificate, kernels)))
        {
            Fail(export, $"the largest logit difference from {source} is {difference:G6}, the certificate says {certificate.LargestLogitDifference:G6}", $"{Tolerance(certificate, kernels):G3} is allowed");
        }
    }

    private static double Tolerance(Certificate certificate, string kernels) =>
        Math.Max(1e-6, certificate.LogitRange * (kernels == certificate.Kernels ? SameKernels : OtherKernels));

    private static (int[] Ids, float[] Logits, string Kernels) Run(string path, int[]? ids)
    {
        using StreamedModel model = StreamedModel.Open(path);
        ids ??= Tokens(model);
        float[] logits = model.Logits(ids);
        if (logits.FirstOrDefault(value => !float.IsFinite(value), 0) is var wrong && !float.IsFinite(wrong))
        {
            Throw.Failed($"{path} computes a logit that is no number", "its weights or activations overflow", "choose another method or type");
        }

        return (ids, logits, model.Kernels);
    }

    private static int[] Tokens(StreamedModel model)
    {
        int most = Math.Min(MostTokens, model.Facts.Context);
        Tokenizer? tokenizer = model.Tokenizer();
        int[] text = tokenizer is null ? [] : [.. tokenizer.Encode(Prompt).Where(id => id < model.Facts.Vocabulary).Take(most)];
        // Without a tokenizer any tokens will do, as long as they are always the same.
        return text.Length > 0 ? text : [.. Enumerable.Range(0, most).Select(i => (int)(((long)i * 7919) + 1) % model.Facts.Vocabulary)];
    }

    private static IEnumerable<string> Candidates(string export, string name)
    {
        string? parent = Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(export)));
        return [Path.Combine(parent ?? ".", name), name, AssetFolder.TryFind(Path.Combine("assets", name)) ?? name, Hub.HubCache.Find(name)];
    }

    private static Span<float> Row(float[] logits, int row, int width) => logits.AsSpan(row * width, width);

    private static BestLogit BestOf(ReadOnlySpan<float> logits)
    {
        int token = Divergence.Best(logits);
        return new(token, logits[token]);
    }

    private static void Fail(string export, string why, string detail) =>
        Throw.Failed($"the certificate of {export} does not hold", $"{why} ({detail})", "export the model again, and compare");
}
