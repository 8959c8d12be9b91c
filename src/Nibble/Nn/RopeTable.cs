using System.Numerics;
using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Nn;

/// <summary>Cosines and sines of all positions up to now; grows with the longest sequence, because contexts of 131,072 are rarely used.</summary>
/// <param name="settings">How fast pairs turn.</param>
/// <param name="dim">Width of a head.</param>
/// <param name="backend">Where the tables live.</param>
public sealed class RopeTable(RopeSettings settings, int dim, IBackend backend) : IDisposable
{
    private const int FirstPositions = 512;
    private readonly double[] _frequencies = settings.Frequencies(dim);
    private readonly List<Tensor> _old = [];
    private Tensor? _cos;
    private Tensor? _sin;

    /// <summary>Bytes of both tables.</summary>
    public long ByteLength => (_cos?.ByteLength ?? 0) + (_sin?.ByteLength ?? 0) + _old.Sum(table => (long)table.ByteLength);

    /// <summary>Turns x <c>[rows, heads, dim]</c> in place; all positions of the pass are below <paramref name="positions"/>.</summary>
    public void Apply(Tensor x, int positions, in Pass pass)
    {
        RopeArguments rope = Arguments(positions, pass);
        Ops.Rope.Forward(pass.Backend, x, rope.Positions, rope.Cos, rope.Sin);
    }

    /// <summary>The tables for positions below <paramref name="positions"/>, and those of the pass.</summary>
    internal RopeArguments Arguments(int positions, in Pass pass)
    {
        if (_cos is null || _cos.Shape[0] < positions)
        {
            Grow(Math.Max(FirstPositions, (int)BitOperations.RoundUpToPowerOf2((uint)positions)));
        }

        return new RopeArguments(pass.Input.Positions, _cos!, _sin!);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cos?.Dispose();
        _sin?.Dispose();
        _old.ForEach(table => table.Dispose());
    }

    private void Grow(int positions)
    {
        // Smaller tables stay: recorded steps may read them. All of them together are smaller than the new one.
        _old.AddRange(new[] { _cos, _sin }.OfType<Tensor>());
        _cos = Table(positions, Math.Cos);
        _sin = Table(positions, Math.Sin);
    }

    private Tensor Table(int positions, Func<double, double> function)
    {
        using Tensor values = Tensor.OnHost(new Shape(positions, _frequencies.Length), DType.F32);
        Span<float> span = values.HostSpan<float>();
        for (int position = 0; position < positions; position++)
        {
            for (int j = 0; j < _frequencies.Length; j++)
            {
                span[(position * _frequencies.Length) + j] = (float)function(position * _frequencies[j]);
            }
        }

        return values.Upload(backend);
    }
}
