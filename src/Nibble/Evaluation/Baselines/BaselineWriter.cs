using System.Runtime.InteropServices;
using Nibble.Evaluation.Metrics;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Evaluation.Baselines;

/// <summary>
/// Writes what others are compared with: the loss of every scored token, and the logits of the first ones in F16. Logits are stored
/// less their largest, so that F16 is most exact where the probability is; a constant makes no difference to a distribution.
/// </summary>
internal sealed class BaselineWriter : LogitRows, IDisposable
{
    private readonly BaselineFacts _facts;
    private readonly OutputFolder _folder;
    private readonly AtomicFile _logits;
    private readonly ushort[] _row;

    public BaselineWriter(string folder, BaselineFacts facts)
        : base(facts.LogitTokens)
    {
        _facts = facts;
        _row = new ushort[facts.Vocabulary];
        _folder = OutputFolder.Create(folder, force: true);
        try
        {
            _logits = AtomicFile.Create(_folder.File(BaselineFacts.LogitsFile), (long)facts.LogitTokens * facts.Vocabulary * sizeof(ushort));
        }
        catch
        {
            // Nobody can dispose what was not constructed.
            _folder.Dispose();
            throw;
        }
    }

    /// <summary>Gives the folder its name.</summary>
    public void Commit(float[] losses)
    {
        _logits.Commit();
        AtomicFile.WriteAllBytes(_folder.File(BaselineFacts.LossesFile), MemoryMarshal.AsBytes(losses.AsSpan()));
        AtomicFile.WriteAllText(_folder.File(BaselineFacts.FactsFile), DocumentJson.Text(_facts, ResultDocument.JsonOptions));
        _folder.Commit();
    }

    public void Dispose()
    {
        _logits.Dispose();
        _folder.Dispose();
    }

    protected override void See(int token, Span<float> logits)
    {
        float largest = Divergence.Largest(logits);
        foreach (ref float logit in logits)
        {
            logit -= largest;
        }

        TensorConvert.F32ToF16(logits, _row);
        long offset = (long)token * _facts.Vocabulary * sizeof(ushort);
        AtomicFile.Attempt(_logits.Path, _row.Length * sizeof(ushort), () => RandomAccess.Write(_logits.Handle, MemoryMarshal.AsBytes(_row.AsSpan()), offset));
    }
}
