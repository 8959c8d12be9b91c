using Nibble.Tensors;

namespace Nibble.Backends;

/// <summary>
/// The backward kernels of a backend, and the optimizer's. A gradient has its tensor's shape; dx, dw and db receive the gradient
/// <b>added</b> to what they hold, unless a method says "in place" or "writes". Reductions have an order that does not depend on the
/// number of threads.
/// </summary>
public interface IGradientKernels
{
    /// <summary>The numbers of a dense F32 packing in the packing's own order, as a tensor that shares its memory; null for every other packing.</summary>
    Tensor? Values(IPackedWeight weight);

    /// <summary>Reads numbers in the order of <see cref="Values"/> (the values, a gradient, a moment) as a matrix <c>[out, in]</c> in row order.</summary>
    void ToRows(IPackedWeight weight, Tensor values, Tensor rows);

    /// <summary>The inverse of <see cref="ToRows"/>.</summary>
    void FromRows(IPackedWeight weight, Tensor rows, Tensor values);

    /// <summary>dx += dy·W straight from the packing, whatever its kind: dy <c>[rows, out]</c>, dx <c>[rows, in]</c>.</summary>
    void MatMulInput(Tensor dy, IPackedWeight w, Tensor dx);

    /// <summary>dx = dy·W: dx is written, whatever it holds.</summary>
    void MatMulInputInto(Tensor dy, IPackedWeight w, Tensor dx)
    {
        Fill(dx, 0);
        MatMulInput(dy, w, dx);
    }

    /// <summary>True if <see cref="MatMulInputGelu"/> is there for operands like these; x stands for a dx of its shape and numbers.</summary>
    bool HasMatMulInputGelu(Tensor dy, IPackedWeight w, Tensor x, GeluKind kind) => false;

    /// <summary>dx = (dy·W) · gelu′(x), written, in one product: the way back through a layer and the GELU before it.</summary>
    void MatMulInputGelu(Tensor dy, IPackedWeight w, Tensor x, GeluKind kind, Tensor dx) => throw new NotSupportedException("a product back through GELU");

    /// <summary>dw += dyᵀ·x, in the order of <see cref="Values"/>.</summary>
    void MatMulWeight(Tensor dy, Tensor x, IPackedWeight w, Tensor dw);

    /// <summary>dw = dyᵀ·x: dw is written, whatever it holds.</summary>
    void MatMulWeightInto(Tensor dy, Tensor x, IPackedWeight w, Tensor dw)
    {
        Fill(dw, 0);
        MatMulWeight(dy, x, w, dw);
    }

    /// <summary>db += the sum of the rows of dy.</summary>
    void SumRows(Tensor dy, Tensor db);

    /// <summary>Row ids[r] of dTable += row r of dy, negative ids left out; dTable is in the order of <see cref="Values"/>.</summary>
    void Gather(Tensor dy, Tensor ids, IPackedWeight table, Tensor dTable);

    /// <summary>LayerNorm; dWeight and dBias may be null.</summary>
    void LayerNorm(Tensor x, Tensor weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight, Tensor? dBias);

    /// <summary>RMSNorm; weight and dWeight may be null.</summary>
    void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor dy, Tensor dx, Tensor? dWeight);

    /// <summary>True if <see cref="NormKept"/> takes x and y like these.</summary>
    bool KeepsNormInput(Tensor x, Tensor y) => false;

    /// <summary>A norm of the residual stream that keeps what its gradient needs of x, so that x may change.</summary>
    void NormKept(in KeptNorm norm) => throw new NotSupportedException("a norm that keeps its input");

    /// <summary>Its gradient.</summary>
    void NormKeptGradient(in KeptNorm norm, in KeptNormGradient gradient) => throw new NotSupportedException("a norm that keeps its input");

    /// <summary>Rotary embedding, in place: turns the gradient back.</summary>
    void Rope(Tensor d, Tensor positions, Tensor cos, Tensor sin);

    /// <summary>dx += the gradient of the slots that x was copied to.</summary>
    void AppendToCache(Tensor dCache, int start, Tensor dx);

    /// <summary>The same, written to dx, whatever it holds.</summary>
    void AppendToCacheInto(Tensor dCache, int start, Tensor dx)
    {
        Fill(dx, 0);
        AppendToCache(dCache, start, dx);
    }

    /// <summary>Columns first … of dx += dy.</summary>
    void CopyColumns(Tensor dy, nint first, Tensor dx);

    /// <summary>Columns first … of dx = dy and the others 0, whatever it holds.</summary>
    void CopyColumnsInto(Tensor dy, nint first, Tensor dx)
    {
        Fill(dx, 0);
        CopyColumns(dy, first, dx);
    }

    /// <summary>Columns times a factor: dFactor (may be null) += the sum of the rows of x∘d; then, in place, d becomes d·factor. x may be null without dFactor.</summary>
    void ScaleColumns(Tensor? x, Tensor factor, Tensor d, Tensor? dFactor);

    /// <summary>Causal attention; the scores are computed again, a block of queries at a time. dKeys and dValues have the cache's shape.</summary>
    void Attention(in AttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues);

    /// <summary>The same, written to dQuery, dKeys and dValues, whatever they hold.</summary>
    void AttentionInto(in AttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues)
    {
        Fill(dQuery, 0);
        Fill(dKeys, 0);
        Fill(dValues, 0);
        Attention(forward, dOutput, dQuery, dKeys, dValues);
    }

    /// <summary>The gradient of <see cref="IKernels.AttendRows"/>, written to the columns of dQuery, dKeys and dValues.</summary>
    void AttendRows(in RowAttentionArguments forward, Tensor dOutput, Tensor dQuery, Tensor dKeys, Tensor dValues) =>
        throw new NotSupportedException("attention without a cache");

    /// <summary>In place: d becomes d·gelu′(x).</summary>
    void Gelu(Tensor x, GeluKind kind, Tensor d);

    /// <summary>Writes both gradients of silu(gate)·up.</summary>
    void SwiGlu(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp);

    /// <summary>Writes both gradients of relu(gate)²·up.</summary>
    void SquaredReluGate(Tensor gate, Tensor up, Tensor dy, Tensor dGate, Tensor dUp);

    /// <summary>
    /// Cross-entropy of rows of logits with targets I32 (negative: not scored, loss and gradient 0). Writes −log p(target) per row to
    /// losses and, in place, the gradient times <paramref name="scale"/> over the logits.
    /// </summary>
    void CrossEntropy(Tensor logits, Tensor targets, float scale, Tensor losses);

    /// <summary>The same for logits whose rows are longer than the number of classes, which only BF16 needs: what follows is not touched.</summary>
    void CrossEntropy(Tensor logits, nint classes, Tensor targets, float scale, Tensor losses)
    {
        if (classes != logits.Shape.Columns)
        {
            throw new NotSupportedException("rows of logits with room behind them");
        }

        CrossEntropy(logits, targets, scale, losses);
    }

    /// <summary>One step of AdamW, in place.</summary>
    void AdamW(in AdamWArguments arguments);

    /// <summary>One step of AdamW for many tensors, in place.</summary>
    void AdamW(ReadOnlySpan<AdamWArguments> all)
    {
        foreach (AdamWArguments arguments in all)
        {
            AdamW(arguments);
        }
    }

    /// <summary>One step of AdamW with 8-bit moments, in place; all tensors in row order.</summary>
    void AdamW8Bit(in AdamW8BitArguments arguments);

    /// <summary>One step of Muon for many matrices, in place; false where a backend leaves it to be put together from other kernels. Gradients may be written over.</summary>
    bool TryMuon(ReadOnlySpan<MuonArguments> all) => false;

    /// <summary>Writes the numbers of an F32 packing, rounded to its dtype, into another dense packing of the same shape.</summary>
    void Round(IPackedWeight source, IPackedWeight target);

    /// <summary>target = source, elementwise; rounded if the target holds other numbers.</summary>
    void Copy(Tensor source, Tensor target);

    /// <summary>All elements of x become <paramref name="value"/>.</summary>
    void Fill(Tensor x, float value);

    /// <summary>All elements of many tensors become 0.</summary>
    void Clear(IReadOnlyList<Tensor> all)
    {
        foreach (Tensor tensor in all)
        {
            Fill(tensor, 0);
        }
    }

    /// <summary>The sum of all squares, in double precision; waits.</summary>
    double SumOfSquares(Tensor x);

    /// <summary>The sum of all squares of many tensors, in double precision; waits.</summary>
    double SumOfSquares(IReadOnlyList<Tensor> all) => all.Sum(SumOfSquares);
}

/// <summary>Arguments of <see cref="IGradientKernels.NormKept"/>: LayerNorm, or RMSNorm if not <paramref name="Centered"/>, of x.</summary>
/// <param name="X">The residual stream, F32 <c>[rows, columns]</c>; the gradient does not read it.</param>
/// <param name="Weight">F32 <c>[columns]</c>, or null for ones.</param>
/// <param name="Bias">F32 <c>[columns]</c>, or null.</param>
/// <param name="Centered">The mean is taken away.</param>
/// <param name="Epsilon">Added to the mean square.</param>
/// <param name="Y">The result.</param>
/// <param name="Kept">Of y's shape and numbers: x rounded to them, written forward and read backward.</param>
/// <param name="Statistics">F32 <c>[rows, 2]</c>: mean and factor of each row of x before it was rounded, written forward and read backward.</param>
public readonly record struct KeptNorm(Tensor X, Tensor? Weight, Tensor? Bias, bool Centered, float Epsilon, Tensor Y, Tensor Kept, Tensor Statistics);

/// <summary>Arguments of <see cref="IGradientKernels.NormKeptGradient"/>.</summary>
/// <param name="Dy">Gradient of y, of y's numbers.</param>
/// <param name="Dx">Gradient of x, F32.</param>
/// <param name="Add">It is added to what <paramref name="Dx"/> holds; else that is written.</param>
/// <param name="DWeight">Where the weight's gradient is added, or null.</param>
/// <param name="DBias">Where the bias's gradient is added, or null.</param>
/// <param name="Rounded">Of y's numbers: what <paramref name="Dx"/> then holds is written here too, rounded; or null.</param>
/// <param name="Sums">F32 <c>[columns]</c>: the sum of the rows that <paramref name="Dx"/> then holds is written here; or null.</param>
public readonly record struct KeptNormGradient(Tensor Dy, Tensor Dx, bool Add, Tensor? DWeight, Tensor? DBias, Tensor? Rounded, Tensor? Sums);

/// <summary>Arguments of <see cref="IGradientKernels.AdamW(in AdamWArguments)"/> (arXiv 1711.05101, algorithm 2; the order of operations is PyTorch's).</summary>
/// <param name="Values">The parameter.</param>
/// <param name="Gradient">Its gradient.</param>
/// <param name="First">Running mean of gradients.</param>
/// <param name="Second">Running mean of squared gradients.</param>
/// <param name="GradientScale">Factor on the gradient: clipping.</param>
/// <param name="LearningRate">Step size.</param>
/// <param name="Beta1">Decay of the first mean.</param>
/// <param name="Beta2">Decay of the second mean.</param>
/// <param name="Epsilon">Added to the root.</param>
/// <param name="WeightDecay">Decoupled weight decay.</param>
/// <param name="Step">Number of this step, from 1.</param>
public readonly record struct AdamWArguments(
    Tensor Values, Tensor Gradient, Tensor First, Tensor Second, float GradientScale,
    float LearningRate, float Beta1, float Beta2, float Epsilon, float WeightDecay, int Step);

/// <summary>
/// Arguments of <see cref="IGradientKernels.AdamW8Bit"/> (arXiv 2110.02861, with the order of operations of bitsandbytes): a moment is a
/// code of the dynamic map times its block's largest magnitude; codes and magnitudes are made again after the step.
/// </summary>
/// <param name="Values">The parameter.</param>
/// <param name="Gradient">Its gradient.</param>
/// <param name="First">Codes of the running mean of gradients, U8, of the signed map.</param>
/// <param name="FirstScales">Largest magnitude of each block of it, F32.</param>
/// <param name="Second">Codes of the running mean of squared gradients, U8, of the unsigned map.</param>
/// <param name="SecondScales">Largest magnitude of each block of it, F32.</param>
/// <param name="GradientScale">Factor on the gradient: clipping.</param>
/// <param name="LearningRate">Step size.</param>
/// <param name="Beta1">Decay of the first mean.</param>
/// <param name="Beta2">Decay of the second mean.</param>
/// <param name="Epsilon">Added to the root.</param>
/// <param name="WeightDecay">Decoupled weight decay.</param>
/// <param name="Step">Number of this step, from 1.</param>
public readonly record struct AdamW8BitArguments(
    Tensor Values, Tensor Gradient, Tensor First, Tensor FirstScales, Tensor Second, Tensor SecondScales, float GradientScale,
    float LearningRate, float Beta1, float Beta2, float Epsilon, float WeightDecay, int Step)
{
    /// <summary>Elements of a block.</summary>
    public const int BlockSize = 256;
}

/// <summary>
/// Arguments of <see cref="IGradientKernels.TryMuon"/> (Keller Jordan 2024, with the scale of steps of arXiv 2502.16982): v = μ·v + g,
/// u = g + μ·v, W = (1 − rate·decay)·W − 0.2·rate·√max(out, in)·NewtonSchulz(u). All tensors in row order.
/// </summary>
/// <param name="Values">The parameter.</param>
/// <param name="Gradient">Its gradient.</param>
/// <param name="Velocity">The momentum v.</param>
/// <param name="Shape">The matrix as it stands in the tensors, <c>[matrices·out, in]</c>.</param>
/// <param name="Matrices">Matrices of equal height above each other; each has a step of its own.</param>
/// <param name="GradientScale">Factor on the gradient: clipping.</param>
/// <param name="LearningRate">Step size.</param>
/// <param name="Momentum">μ.</param>
/// <param name="WeightDecay">Decoupled weight decay.</param>
public readonly record struct MuonArguments(
    Tensor Values, Tensor Gradient, Tensor Velocity, Shape Shape, int Matrices, float GradientScale, float LearningRate, float Momentum, float WeightDecay)
{
    /// <summary>The factor of the orthogonal matrix in a step: its elements then have the size of AdamW's.</summary>
    public float StepOf(nint outFeatures, nint inFeatures) => (float)(0.2 * LearningRate * Math.Sqrt(nint.Max(outFeatures, inFeatures)));

    /// <summary>What remains of a weight before the step.</summary>
    public float Keep => (float)(1 - ((double)LearningRate * WeightDecay));
}
