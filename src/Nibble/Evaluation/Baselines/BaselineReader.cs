using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Nibble.Evaluation.Metrics;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Evaluation.Baselines;

/// <summary>Compares a model with a stored baseline: KL divergence and agreement of the best token, for each of the first tokens.</summary>
internal sealed class BaselineReader : LogitRows, IDisposable
{
    private readonly SafeFileHandle _logits;
    private readonly ushort[] _half;
    private readonly float[] _row;

    private BaselineReader(string folder, BaselineFacts facts, float[] losses)
        : base(facts.LogitTokens)
    {
        _logits = File.OpenHandle(Path.Combine(folder, BaselineFacts.LogitsFile));
        _half = new ushort[facts.Vocabulary];
        _row = new float[facts.Vocabulary];
        Losses = losses;
        Kl = new float[facts.LogitTokens];
        Agreement = new float[facts.LogitTokens];
    }

    /// <summary>The baseline's loss of every scored token.</summary>
    public float[] Losses { get; }

    /// <summary>KL divergence of each of the first tokens, in nats.</summary>
    public float[] Kl { get; }

    /// <summary>1 where both models find the same token most likely, else 0.</summary>
    public float[] Agreement { get; }

    /// <summary>Opens a baseline that was measured on exactly <paramref name="expected"/>.</summary>
    public static BaselineReader Open(string folder, BaselineFacts expected)
    {
        string path = Path.Combine(folder, BaselineFacts.FactsFile);
        if (!File.Exists(path))
        {
            Throw.NotFound($"baseline {folder} does not exist", $"there is no {BaselineFacts.FactsFile} in it", "make one with 'nibble eval MODEL --save-baseline FOLDER'");
        }

        BaselineFacts facts = JsonText.Read(path, root => DocumentJson.Read<BaselineFacts>(root, ResultDocument.JsonOptions), "measure the baseline again");
        if (facts != expected)
        {
            Throw.BadInput(
                $"baseline {folder} was measured on something else: {facts}",
                $"this measurement is {expected}",
                "measure the baseline again with the same protocol, text, limit and tokenizer");
        }

        byte[] losses = File.ReadAllBytes(Path.Combine(folder, BaselineFacts.LossesFile));
        long logits = new FileInfo(Path.Combine(folder, BaselineFacts.LogitsFile)).Length;
        if (losses.Length != expected.ScoredTokens * sizeof(float) || logits != (long)expected.LogitTokens * expected.Vocabulary * sizeof(ushort))
        {
            Throw.BadInput($"baseline {folder} is damaged", "the sizes of its files do not fit what it says about itself", "measure the baseline again");
        }

        return new BaselineReader(folder, expected, MemoryMarshal.Cast<byte, float>(losses).ToArray());
    }

    public void Dispose() => _logits.Dispose();

    protected override void See(int token, Span<float> logits)
    {
        long offset = (long)token * _half.Length * sizeof(ushort);
        Span<byte> bytes = MemoryMarshal.AsBytes(_half.AsSpan());
        if (RandomAccess.Read(_logits, bytes, offset) != bytes.Length)
        {
            throw new EndOfStreamException("the baseline's logits end too early");
        }

        TensorConvert.F16ToF32(_half, _row);
        Kl[token] = (float)Divergence.Kl(_row, logits);
        Agreement[token] = Divergence.Best(_row) == Divergence.Best(logits) ? 1 : 0;
    }
}
