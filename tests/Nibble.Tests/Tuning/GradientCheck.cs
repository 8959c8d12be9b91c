using Nibble.Backends;
using Nibble.Tensors;
using Nibble.Tests.Kernels;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>
/// Compares the gradient that the tape computes with central differences of an op's double-precision reference, for
/// f = Σ c·output with random c.
/// </summary>
internal sealed class GradientCheck : IDisposable
{
    private const int MostSampled = 24;
    private const float Step = 1e-2f;
    private readonly IBackend _backend;
    private readonly List<(string Name, Tensor Values, Func<float[]> Gradient)> _inputs = [];

    public GradientCheck(IBackend backend)
    {
        _backend = backend;
        Workspace = new Workspace(backend);
        Tape = new Tape(backend, Workspace);
        Recording = new RecordingBackend(backend, Tape, Parameters);
        Tape.Begin();
    }

    public ParameterSet Parameters { get; } = new();

    public Workspace Workspace { get; }

    public Tape Tape { get; }

    /// <summary>The backend to run the op on.</summary>
    public RecordingBackend Recording { get; }

    /// <summary>An input whose gradient is checked.</summary>
    public Tensor Input(string name, Shape shape, int seed)
    {
        Tensor values = KernelData.Random(shape, seed);
        float[] gradient = new float[shape.Count];
        Tape.Record(values, d => d.HostSpan<float>().CopyTo(gradient));
        // The op may work in place: differences are taken around a copy.
        _inputs.Add((name, KernelData.Widen(values), () => gradient));
        return values;
    }

    /// <summary>A trained vector whose gradient is checked.</summary>
    public Tensor Vector(string name, int count, int seed)
    {
        Tensor values = KernelData.Random(new Shape(count), seed);
        Parameters.Add(name, values, _backend);
        _inputs.Add((name, values, () => Parameters.Find(values)!.Gradient.HostSpan<float>().ToArray()));
        return values;
    }

    /// <summary>A trained matrix whose gradient is checked.</summary>
    public IPackedWeight Matrix(string name, int rows, int columns, int seed)
    {
        Tensor values = KernelData.Random(new Shape(rows, columns), seed);
        IPackedWeight packed = _backend.Prepare(values);
        Parameters.Add(name, packed, _backend);
        _inputs.Add((name, values, () =>
        {
            Parameter parameter = Parameters.Find(packed)!;
            using Tensor read = ParameterRows.Read(_backend, parameter, parameter.Gradient);
            return read.HostSpan<float>().ToArray();
        }));
        return packed;
    }

    /// <summary>Plays the tape backward from random weights of the output, and compares.</summary>
    /// <param name="output">What the op wrote.</param>
    /// <param name="reference">Gives the op's output for values of the inputs, in the order in which they were made.</param>
    public void Run(Tensor output, Func<Tensor[], Tensor> reference)
    {
        using Tensor weights = Backward(output);
        Tensor[] values = [.. _inputs.Select(input => input.Values)];
        foreach ((string name, Tensor tensor, Func<float[]> gradient) in _inputs)
        {
            Compare(name, tensor, gradient(), () => Weighted(reference(values), weights));
        }
    }

    /// <summary>
    /// The same for an op that is linear in its only input: differences of f are then the transposed op of c, whatever their step. One
    /// evaluation gives all of them, where differences take two for each element.
    /// </summary>
    /// <param name="output">What the op wrote.</param>
    /// <param name="transposed">Gives the transposed op's result in double precision.</param>
    public void RunLinear(Tensor output, Func<Tensor, Tensor> transposed)
    {
        using Tensor weights = Backward(output), expected = transposed(weights);
        (string name, Tensor tensor, Func<float[]> read) = _inputs.Single();
        float[] gradient = read();
        double largest = gradient.Max(Math.Abs);
        for (int i = 0; i < gradient.Length; i++)
        {
            Close(name, tensor, i, gradient[i], expected.HostSpan<float>()[i], largest);
        }
    }

    public void Dispose()
    {
        Tape.Dispose();
        Workspace.Dispose();
        Parameters.Dispose();
    }

    private static void Compare(string name, Tensor tensor, float[] gradient, Func<double> f)
    {
        Random random = new(7);
        Span<float> values = tensor.HostSpan<float>();
        double largest = gradient.Max(Math.Abs);
        for (int sample = 0; sample < Math.Min(MostSampled, values.Length); sample++)
        {
            int i = values.Length <= MostSampled ? sample : random.Next(values.Length);
            float middle = values[i];
            (float above, float below) = (middle + Step, middle - Step);
            values[i] = above;
            double high = f();
            values[i] = below;
            double low = f();
            values[i] = middle;
            Close(name, tensor, i, gradient[i], (high - low) / ((double)above - below), largest);
        }
    }

    private static void Close(string name, Tensor tensor, int i, float gradient, double expected, double largest)
    {
        if (!(Math.Abs(expected - gradient) <= 2e-3 * (Math.Abs(expected) + (0.1 * largest) + 0.05)))
        {
            Assert.Fail($"{name}[{i}] of {tensor.Shape}: tape {gradient:R}, reference {expected:R}");
        }
    }

    // Plays the tape backward from random weights of the output, which it returns.
    private Tensor Backward(Tensor output)
    {
        Tensor weights = KernelData.Random(output.Shape, 99), seed = Tape.Rent(output.Shape);
        weights.HostSpan<float>().CopyTo(seed.HostSpan<float>());
        Tape.Give(output, seed);
        Tape.Backward();
        return weights;
    }

    private static double Weighted(Tensor output, Tensor weights)
    {
        double sum = 0;
        Span<float> a = output.HostSpan<float>(), b = weights.HostSpan<float>();
        for (int i = 0; i < a.Length; i++)
        {
            sum += (double)a[i] * b[i];
        }

        // A span of native memory does not keep its tensor: without this a collection could free the result while it is read.
        GC.KeepAlive(output);
        GC.KeepAlive(weights);
        return sum;
    }
}
