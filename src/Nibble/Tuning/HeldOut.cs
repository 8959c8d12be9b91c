using Nibble.Backends;
using Nibble.Data;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>Mean −log p of held-out rows, with the model as it stands.</summary>
internal static class HeldOut
{
    private const int RowsPerPass = 8;

    public static double Nll(CausalModel model, TrainingSet data, CancellationToken cancellation = default)
    {
        using Workspace workspace = new(model.Backend);
        double sum = 0;
        foreach (TrainingRow[] rows in data.Rows.OrderBy(row => row.Ids.Length).Chunk(RowsPerPass))
        {
            cancellation.ThrowIfCancellationRequested();
            sum += Batch(model, Batcher.Pad(rows), workspace);
        }

        return sum / data.ScoredTokens;
    }

    private static double Batch(CausalModel model, TrainingBatch batch, Workspace workspace)
    {
        using Workspace.Scope scope = workspace.Begin();
        using KvCache cache = new(model, batch.Batch, batch.Length);
        IBackend backend = model.Backend;
        Tensor Upload(int[] values)
        {
            Tensor tensor = workspace.Rent(new Shape(values.Length), DType.I32);
            backend.Write<int>(values, tensor);
            return tensor;
        }

        Tensor positions = Upload([.. Enumerable.Range(0, batch.Ids.Length).Select(i => i % batch.Length)]);
        Tensor hidden = model.Forward(new ModelInput(Upload(batch.Ids), positions, batch.Batch, batch.Length), cache, workspace);
        Tensor scores = workspace.Rent(new Shape(batch.Ids.Length));
        model.LogLikelihood(hidden, Upload(batch.Targets), scores, null, workspace);
        float[] values = new float[batch.Ids.Length];
        backend.Read<float>(scores, values);
        return -values.Sum(value => (double)value);
    }
}
