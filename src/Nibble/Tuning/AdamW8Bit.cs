using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// AdamW whose moments are 8-bit codes in blocks of 256 elements of the matrix in row order, each block with its largest magnitude
/// (arXiv 2110.02861). As in bitsandbytes, parameters of fewer than 4,096 numbers keep F32 moments.
/// </summary>
internal sealed class AdamW8Bit : Optimizer
{
    private const int FewestNumbers = 4096;
    private readonly Tensor _values, _gradient;

    public AdamW8Bit(ParameterSet parameters, IBackend backend, OptimizerSettings settings)
        : base(parameters, backend, settings)
    {
        // Matrices stand in panels; their blocks are those of the rows.
        nint largest = parameters.All.Where(parameter => parameter.Weight is not null && IsCoded(parameter)).Select(parameter => parameter.Shape.Count).DefaultIfEmpty(0).Max();
        _values = backend.Allocate(new Shape(largest), DType.F32);
        _gradient = backend.Allocate(new Shape(largest), DType.F32);
    }

    public override void Dispose()
    {
        base.Dispose();
        _values.Dispose();
        _gradient.Dispose();
    }

    protected override IEnumerable<StateSpec> States(Parameter parameter)
    {
        nint count = parameter.Shape.Count, blocks = (count + AdamW8BitArguments.BlockSize - 1) / AdamW8BitArguments.BlockSize;
        return IsCoded(parameter)
            ?
            [
                new("first", DType.U8, count, false), new("first_absmax", DType.F32, blocks, false),
                new("second", DType.U8, count, false), new("second_absmax", DType.F32, blocks, false),
            ]
            : [new("first", DType.F32, parameter.Values.Shape.Count, true), new("second", DType.F32, parameter.Values.Shape.Count, true)];
    }

    protected override void Update(Parameter parameter, Tensor[] states, double learningRate, double gradientScale)
    {
        if (!IsCoded(parameter))
        {
            Backend.Gradients.AdamW(new AdamWArguments(
                parameter.Values, parameter.Gradient, states[0].Reshape(parameter.Values.Shape), states[1].Reshape(parameter.Values.Shape), (float)gradientScale,
                (float)learningRate, Settings.Beta1, Settings.Beta2, Settings.Epsilon, Settings.WeightDecay, Steps));
            return;
        }

        if (parameter.Weight is null)
        {
            Update(parameter.Values, parameter.Gradient, states, learningRate, gradientScale);
            return;
        }

        Tensor values = Rows(_values, parameter), gradient = Rows(_gradient, parameter);
        Backend.Gradients.ToRows(parameter.Weight, parameter.Values, values);
        Backend.Gradients.ToRows(parameter.Weight, parameter.Gradient, gradient);
        Update(values, gradient, states, learningRate, gradientScale);
        Backend.Gradients.FromRows(parameter.Weight, values, parameter.Values);
    }

    private static bool IsCoded(Parameter parameter) => parameter.Shape.Count >= FewestNumbers;

    private static Tensor Rows(Tensor buffer, Parameter parameter) => buffer.Slice(0, parameter.Shape.Count).Reshape(parameter.Shape);

    private void Update(Tensor values, Tensor gradient, Tensor[] states, double learningRate, double gradientScale) =>
        Backend.Gradients.AdamW8Bit(new AdamW8BitArguments(
            values, gradient, states[0], states[1], states[2], states[3], (float)gradientScale,
            (float)learningRate, Settings.Beta1, Settings.Beta2, Settings.Epsilon, Settings.WeightDecay, Steps));
}
