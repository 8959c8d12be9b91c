using Nibble.Tensors;

namespace Nibble.Backends;

/// <summary>Which GELU a model uses.</summary>
public enum GeluKind
{
    /// <summary>x·Φ(x), with the error function.</summary>
    Exact,

    /// <summary>The tanh form of GPT-2 (<c>gelu_new</c>, <c>gelu_pytorch_tanh</c>).</summary>
    Tanh,
}

/// <summary>
/// The forward kernels of a backend. Shapes are checked by the ops (<c>Nibble.Ops</c>) that call them; all activations are F32 (in
/// training also what else <see cref="IBackend.Computes"/>), row-major; destinations are given by the caller. Nothing is allocated per call.
/// </summary>
public interface IKernels
{
    /// <summary>y = x·Wᵀ + bias: x <c>[rows, in]</c>, W <c>[out, in]</c>, bias <c>[out]</c> or null, y <c>[rows, out]</c>.</summary>
    void MatMul(Tensor x, IPackedWeight w, Tensor? bias, Tensor y);

    /// <summary>y[r] = row ids[r] of the table: ids I32 <c>[rows]</c>, y <c>[rows, in]</c>.</summary>
    void Gather(IPackedWeight table, Tensor ids, Tensor y);

    /// <summary>The same for the rows whose id is not negative; the others keep what they hold.</summary>
    void GatherSome(IPackedWeight table, Tensor ids, Tensor y);

    /// <summary>LayerNorm over the last dimension (arXiv 1607.06450, eq. 4); weight and bias <c>[columns]</c>. y may be x.</summary>
    void LayerNorm(Tensor x, Tensor weight, Tensor? bias, float epsilon, Tensor y);

    /// <summary>RMSNorm over the last dimension (arXiv 1910.07467, eq. 4); weight <c>[columns]</c> or null. y may be x.</summary>
    void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor y);

    /// <summary>
    /// Rotary embedding in place, "two halves" form: element j turns with j + dim/2. x <c>[rows, heads, dim]</c>, positions I32
    /// <c>[rows]</c>, cos and sin <c>[positions, dim/2]</c>.
    /// </summary>
    void Rope(Tensor x, Tensor positions, Tensor cos, Tensor sin);

    /// <summary>
    /// Copies new keys or values <c>[batch·length, kvHeads, dim]</c> into a cache <c>[batch, kvHeads, capacity, dim]</c> at slots
    /// <paramref name="start"/> …
    /// </summary>
    void AppendToCache(Tensor x, Tensor cache, int start);

    /// <summary>Causal attention of the newest tokens over the cache.</summary>
    void Attention(in AttentionArguments arguments);

    /// <summary>True if <see cref="AttendRows"/> is there.</summary>
    bool AttendsRows => false;

    /// <summary>Causal attention of whole rows among themselves, all in BF16, without a cache: for training.</summary>
    void AttendRows(in RowAttentionArguments arguments) => throw new NotSupportedException("attention without a cache");

    /// <summary>GELU elementwise; y may be x.</summary>
    void Gelu(Tensor x, GeluKind kind, Tensor y);

    /// <summary>y = silu(gate)·up; y may be gate.</summary>
    void SwiGlu(Tensor gate, Tensor up, Tensor y);

    /// <summary>y = relu(gate)²·up (BitNet's MLP); y may be gate.</summary>
    void SquaredReluGate(Tensor gate, Tensor up, Tensor y);

    /// <summary>y += x elementwise.</summary>
    void Add(Tensor x, Tensor y);

    /// <summary>y = columns first … first + columns(y) − 1 of x: x <c>[rows, columns]</c>, y <c>[rows, fewer columns]</c>.</summary>
    void CopyColumns(Tensor x, nint first, Tensor y);

    /// <summary>y = factor·x·Wᵀ: the narrow product of a low-rank adapter.</summary>
    void MatMulScaled(Tensor x, IPackedWeight w, float factor, Tensor y)
    {
        MatMul(x, w, null, y);
        Scale(y, factor);
    }

    /// <summary>y += x·Wᵀ: what a low-rank adapter adds to its layer.</summary>
    void MatMulAdd(Tensor x, IPackedWeight w, Tensor y);

    /// <summary>y += x·Wᵀ + bias: x BF16, y F32, for training on a device that computes so.</summary>
    void MatMulAdd(Tensor x, IPackedWeight w, Tensor? bias, Tensor y) => throw new NotSupportedException("a product of BF16 added to F32");

    /// <summary>
    /// sum += xᵀ·x, the lower triangle with the diagonal: x <c>[rows, columns]</c>, sum <c>[columns, columns]</c> on the host. The
    /// rows of one call are summed in F32.
    /// </summary>
    void AddGram(Tensor x, double[] sum);

    /// <summary>x = x·factor, in place.</summary>
    void Scale(Tensor x, float factor);

    /// <summary>x[r][c] = x[r][c]·factor[c] + shift[c], in place: factor and shift <c>[columns]</c>, shift may be null.</summary>
    void ScaleColumns(Tensor x, Tensor factor, Tensor? shift);

    /// <summary>
    /// Dropout in place: each element is set to 0 with the given probability, the others are divided by what remains. Element i is
    /// dropped or not by (key, i) alone, so the same call gives the same result again.
    /// </summary>
    void Dropout(Tensor x, ulong key, float probability);

    /// <summary>
    /// x = x + share·(x̂ − x), in place: x̂ is x on the grid of 8-bit integers that its row's largest magnitude spans. A row with NaN or
    /// infinity becomes NaN.
    /// </summary>
    void RoundRows(Tensor x, float share);

    /// <summary>Softmax over the last dimension, in place, stable.</summary>
    void Softmax(Tensor x);

    /// <summary>
    /// log p(target) per row without materializing all logits at once: hidden <c>[rows, in]</c>, targets I32 <c>[rows]</c>
    /// (negative: not scored, result 0), logProbabilities F32 <c>[rows]</c>, best (I32 <c>[rows]</c> or null) the most likely token.
    /// </summary>
    void LogLikelihood(Tensor hidden, IPackedWeight head, Tensor? bias, Tensor targets, Tensor logProbabilities, Tensor? best, Workspace workspace);
}

/// <summary>Arguments of <see cref="IKernels.Attention"/>.</summary>
/// <param name="Query">F32 <c>[batch·length, heads, dim]</c>.</param>
/// <param name="Keys">Cache <c>[batch, kvHeads, capacity, dim]</c>, already holding the new keys.</param>
/// <param name="Values">Cache of the values, same shape.</param>
/// <param name="Output">F32 <c>[batch·length, heads, dim]</c>.</param>
/// <param name="Batch">Rows of the batch.</param>
/// <param name="Length">New tokens per row: they stand in slots Start … Start + Length − 1.</param>
/// <param name="Start">Slots filled before this call.</param>
/// <param name="FirstKey">I32 <c>[batch]</c>: the first slot of each row that holds a real token (left padding before it), or null for 0. Or I32 <c>[batch·length]</c>: the first slot that each query sees, not falling along a row (several texts in one row).</param>
/// <param name="Scale">Factor on q·k, usually 1/√dim.</param>
/// <param name="Window">Sliding window: a query in slot i sees slots &gt; i − Window; 0 means no window.</param>
public readonly record struct AttentionArguments(
    Tensor Query, Tensor Keys, Tensor Values, Tensor Output, int Batch, int Length, int Start, Tensor? FirstKey, float Scale, int Window)
{
    /// <summary>With BF16, what the gradient needs to know: F32 <c>[batch·length, heads]</c>, written forward and read backward.</summary>
    public Tensor? LogSums { get; init; }

    /// <summary>True if <see cref="FirstKey"/> has a slot for each query.</summary>
    public bool HasFirstKeyOfQueries => FirstKey is not null && FirstKey.Shape.Count == (nint)Batch * Length;
}

/// <summary>
/// Arguments of <see cref="IKernels.AttendRows"/>: queries, keys and values are columns of matrices <c>[batch·length, columns]</c>, of one or
/// of three; a gradient stands in a matrix of the same shape, in the same columns.
/// </summary>
/// <param name="Query">Holds the queries from <paramref name="QueryColumn"/> on, head after head.</param>
/// <param name="QueryColumn">See <paramref name="Query"/>.</param>
/// <param name="Keys">Holds the keys.</param>
/// <param name="KeyColumn">Their first column.</param>
/// <param name="Values">Holds the values; as many columns as <paramref name="Keys"/>.</param>
/// <param name="ValueColumn">Their first column.</param>
/// <param name="Output"><c>[batch·length, heads·dim]</c>.</param>
/// <param name="Heads">Heads of queries.</param>
/// <param name="KvHeads">Heads of keys and values.</param>
/// <param name="HeadDim">Elements of a head.</param>
/// <param name="Batch">Rows of the batch.</param>
/// <param name="Length">Tokens of a row.</param>
/// <param name="FirstKey">I32 <c>[batch·length]</c>: the first token that each query sees, or null for all before it.</param>
/// <param name="Scale">Factor on q·k.</param>
/// <param name="Window">Sliding window; 0 means none.</param>
public readonly record struct RowAttentionArguments(
    Tensor Query, nint QueryColumn, Tensor Keys, nint KeyColumn, Tensor Values, nint ValueColumn, Tensor Output, int Heads, int KvHeads, int HeadDim, int Batch,
    int Length, Tensor? FirstKey, float Scale, int Window)
{
    /// <summary>What the gradient needs to know: F32 <c>[batch·length, heads]</c>, written forward and read backward.</summary>
    public Tensor? LogSums { get; init; }
}
