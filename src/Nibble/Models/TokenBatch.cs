using Nibble.Backends;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>Rows of tokens of different lengths as one padded pass from an empty cache.</summary>
public sealed class TokenBatch : IDisposable
{
    private readonly Tensor _ids;
    private readonly Tensor _positions;
    private readonly Tensor? _firstKey;

    private TokenBatch(IBackend backend, PaddedRows rows)
    {
        Starts = rows.Starts;
        _ids = Upload(backend, [.. rows.Ids.SelectMany(row => row)]);
        _positions = Upload(backend, [.. rows.Positions.SelectMany(row => row)]);
        _firstKey = Starts.Any(start => start > 0) ? Upload(backend, Starts) : null;
        Input = new ModelInput(_ids, _positions, rows.Ids.Length, rows.Length, _firstKey) { Starts = _firstKey is null ? null : Starts };
    }

    /// <summary>The pass.</summary>
    public ModelInput Input { get; }

    /// <summary>First real slot of each row.</summary>
    public int[] Starts { get; }

    /// <summary>Pads on the left: all rows end together, as generation needs.</summary>
    public static TokenBatch PadLeft(CausalModel model, IReadOnlyList<int[]> rows) => Create(model, rows, left: true);

    /// <summary>Pads on the right: all rows start together, as scoring likes.</summary>
    public static TokenBatch PadRight(CausalModel model, IReadOnlyList<int[]> rows) => Create(model, rows, left: false);

    /// <summary>Refuses tokens that the model has no embedding for, empty rows and rows longer than the model's context.</summary>
    public static void Require(ModelFacts facts, IReadOnlyList<int[]> rows)
    {
        if (rows.Count == 0 || rows.Any(row => row.Length == 0))
        {
            Throw.BadInput("there are no tokens to run", "a sequence is empty", "give some text; a prompt may be a single token");
        }

        int longest = rows.Max(row => row.Length);
        if (longest > facts.Context)
        {
            Throw.BadInput(
                $"{longest:N0} tokens are too many for this model",
                $"its context is {facts.Context:N0} tokens",
                "shorten the text, or cut it into windows");
        }

        foreach (int token in rows.SelectMany(row => row))
        {
            if (token < 0 || token >= facts.Vocabulary)
            {
                Throw.BadInput(
                    $"token {token} is not in the model's vocabulary",
                    $"its embedding has {facts.Vocabulary:N0} entries",
                    "use the tokenizer that belongs to this model");
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ids.Dispose();
        _positions.Dispose();
        _firstKey?.Dispose();
    }

    private static TokenBatch Create(CausalModel model, IReadOnlyList<int[]> rows, bool left)
    {
        Require(model.Facts, rows);
        return new TokenBatch(model.Backend, new PaddedRows(rows, left, model.Virtual?.Count ?? 0));
    }

    internal static Tensor Upload(IBackend backend, int[] values)
    {
        Tensor tensor = backend.Allocate(new Shape(values.Length), DType.I32);
        backend.Write<int>(values, tensor);
        return tensor;
    }
}
