using Nibble.Backends;
using Nibble.IO;
using Nibble.Nn;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// DoRA (arXiv 2402.09353): y = m/‖W + sBA‖ ∘ (W + sBA)·x + bias, with the norm of each output row, through which no gradient flows
/// (section 4.3). Inputs are dropped as PEFT does it: only in what the adapter changes.
/// </summary>
/// <param name="inner">The layer below, which this one then owns.</param>
/// <param name="pair">A, B and the magnitudes; they belong to the adapter.</param>
/// <param name="norms">The norms of the rows.</param>
/// <param name="dropout">Probability that an input of the adapter is dropped in training.</param>
internal sealed class DoraLinear(ILinear inner, LoraPair pair, DoraNorms norms, float dropout) : ILinear
{
    private readonly LowRankPath _path = new(inner.Path, pair, dropout);

    public string Path => inner.Path;

    public IPackedWeight Weight => inner.Weight;

    public Tensor? Bias => inner.Bias;

    public void Forward(Tensor x, Tensor y, in Pass pass)
    {
        using Workspace.Scope scope = pass.Workspace.Begin();
        Tensor inverse = norms.Inverse(pass.Training);
        if (!_path.Drops(pass))
        {
            Ops.MatMul.Forward(pass.Backend, x, inner.Weight, null, y);
            _path.AddTo(x, y, pass);
            Ops.ScaleColumns.Forward(pass.Backend, y, inverse);
            Ops.ScaleColumns.Forward(pass.Backend, y, pair.Magnitude!, inner.Bias);
            return;
        }

        // y = base(x) + m/n ∘ (W + sBA)·x′ − W·x′ with the dropped input x′.
        Tensor dropped = _path.Dropped(x, pass), whole = pass.Workspace.Rent(y.Shape), plain = pass.Workspace.Rent(y.Shape);
        inner.Forward(x, y, pass);
        Ops.MatMul.Forward(pass.Backend, dropped, inner.Weight, null, whole);
        Ops.CopyColumns.Forward(pass.Backend, whole, 0, plain);
        _path.AddTo(dropped, whole, pass);
        Ops.ScaleColumns.Forward(pass.Backend, whole, inverse);
        Ops.ScaleColumns.Forward(pass.Backend, whole, pair.Magnitude!);
        Ops.LowRank.Scale(pass.Backend, plain, -1);
        Ops.Add.Forward(pass.Backend, whole, y);
        Ops.Add.Forward(pass.Backend, plain, y);
    }

    public void Dispose()
    {
        norms.Dispose();
        inner.Dispose();
    }
}

/// <summary>
/// The norms of the rows of W + sBA without that matrix: ‖w + s·bA‖² = ‖w‖² + 2s·b·(A·w) + s²·b·(A·Aᵀ)·bᵀ, where A·Wᵀ is a product of
/// as many rows as the rank.
/// </summary>
internal sealed class DoraNorms : IDisposable
{
    private readonly IBackend _backend;
    private readonly LoraPair _pair;
    private readonly IPackedWeight _weight;
    private readonly double[] _squares;
    private readonly Tensor _ids, _a, _products, _gram, _inverse;
    private bool _known;

    /// <summary>Prepares the norms of a layer; reads its matrix once.</summary>
    public DoraNorms(IBackend backend, LoraPair pair, IPackedWeight weight)
    {
        if (weight.Activations == ActivationType.Int8)
        {
            Throw.Usage(
                $"DoRA can't be used on {pair.Target.Linear.Path}",
                $"its base ({weight.Name}) multiplies with int8 activations, so its rows have no exact norm",
                "use --method lora on this base, or another base");
        }

        (_backend, _pair, _weight) = (backend, pair, weight);
        _squares = SquaresOfRows(backend, weight);
        nint rank = pair.A.Out;
        _ids = backend.Allocate(new Shape(rank), DType.I32);
        backend.Write<int>([.. Enumerable.Range(0, (int)rank)], _ids);
        _a = backend.Allocate(new Shape(rank, weight.In), DType.F32);
        _products = backend.Allocate(new Shape(rank, weight.Out), DType.F32);
        _gram = backend.Allocate(new Shape(rank, rank), DType.F32);
        _inverse = backend.Allocate(new Shape(weight.Out), DType.F32);
    }

    /// <summary>1/‖row‖ of every row; computed again if <paramref name="changing"/>, or after <see cref="Refresh"/>.</summary>
    public Tensor Inverse(bool changing)
    {
        if (changing || !_known)
        {
            _backend.Write<float>([.. Squares().Select(square => (float)(1 / Math.Sqrt(Math.Max(square, 1e-30))))], _inverse);
            _known = !changing;
        }

        return _inverse;
    }

    /// <summary>A or B have changed.</summary>
    public void Refresh() => _known = false;

    public void Dispose()
    {
        foreach (Tensor tensor in new[] { _ids, _a, _products, _gram, _inverse })
        {
            tensor.Dispose();
        }
    }

    /// <summary>‖w‖² of every row of a packing.</summary>
    public static double[] SquaresOfRows(IBackend backend, IPackedWeight weight)
    {
        using Tensor dense = ParameterRows.Dense(backend, weight);
        double[] squares = new double[weight.Out];
        for (int row = 0; row < squares.Length; row++)
        {
            foreach (float value in dense.Slice(row, 1).HostSpan<float>())
            {
                squares[row] += (double)value * value;
            }
        }

        return squares;
    }

    private double[] Squares()
    {
        _backend.Kernels.Gather(_pair.A, _ids, _a);
        _backend.Kernels.MatMul(_a, _weight, null, _products);
        _backend.Kernels.MatMul(_a, _pair.A, null, _gram);
        int rank = (int)_pair.A.Out, rows = _squares.Length;
        float[] products = new float[rank * rows], gram = new float[rank * rank];
        _backend.Read<float>(_products, products);
        _backend.Read<float>(_gram, gram);
        using Tensor b = ParameterRows.Dense(_backend, _pair.B);
        ReadOnlySpan<float> left = b.HostSpan<float>();
        double[] result = new double[rows];
        for (int row = 0; row < rows; row++)
        {
            result[row] = Square(row, left.Slice(row * rank, rank), products, gram);
        }

        return result;
    }

    private double Square(int row, ReadOnlySpan<float> b, float[] products, float[] gram)
    {
        double mixed = 0, own = 0;
        for (int i = 0; i < b.Length; i++)
        {
            mixed += (double)b[i] * products[(i * _squares.Length) + row];
            double inner = 0;
            for (int j = 0; j < b.Length; j++)
            {
                inner += (double)gram[(i * b.Length) + j] * b[j];
            }

            own += b[i] * inner;
        }

        return _squares[row] + (2.0 * _pair.Scale * mixed) + ((double)_pair.Scale * _pair.Scale * own);
    }
}
