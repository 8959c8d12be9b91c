using Nibble.Backends;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Evaluation.Baselines;

/// <summary>Computes logits of scored positions a few rows at a time, for the first tokens of a text only.</summary>
internal abstract class LogitRows(int count) : IScoredRows
{
    // 32 rows of a vocabulary of 128,000 are 16 MB.
    private const int RowsAtOnce = 32;

    private float[] _values = [];

    /// <inheritdoc/>
    public void Visit(CausalModel model, Tensor hidden, int first, Workspace workspace)
    {
        int rows = Math.Min((int)hidden.Shape.Rows, count - first);
        int vocabulary = model.Facts.Vocabulary;
        for (int row = 0; row < rows; row += RowsAtOnce)
        {
            using Workspace.Scope scope = workspace.Begin();
            int taken = Math.Min(RowsAtOnce, rows - row);
            Tensor logits = workspace.Rent(new Shape(taken, vocabulary));
            model.Logits(hidden.Slice(row, taken), logits);
            if (_values.Length < taken * vocabulary)
            {
                _values = new float[taken * vocabulary];
            }

            model.Backend.Read(logits, _values.AsSpan(0, taken * vocabulary));
            for (int i = 0; i < taken; i++)
            {
                See(first + row + i, _values.AsSpan(i * vocabulary, vocabulary));
            }
        }
    }

    /// <summary>The logits that predict one scored token.</summary>
    protected abstract void See(int token, Span<float> logits);
}
