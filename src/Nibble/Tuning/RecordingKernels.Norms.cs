using Nibble.Backends;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>Norms on the tape.</summary>
internal sealed partial class RecordingKernels
{
    public void LayerNorm(Tensor x, Tensor weight, Tensor? bias, float epsilon, Tensor y) => Norm(new(x, weight, bias, Centered: true, epsilon, y, y, y));

    public void RmsNorm(Tensor x, Tensor? weight, float epsilon, Tensor y) => Norm(new(x, weight, null, Centered: false, epsilon, y, y, y));

    // Kept and Statistics are not there yet.
    private void Norm(KeptNorm norm)
    {
        Parameter? scale = parameters.Find(norm.Weight), shift = parameters.Find(norm.Bias);
        bool flows = Starts(norm.Y, norm.X, scale, shift, out bool active);
        if (flows && _gradients.KeepsNormInput(norm.X, norm.Y))
        {
            NormKept(norm, scale, shift, active);
            return;
        }

        Tape.Saved[] saved = flows ? [tape.Save(norm.X)] : [];
        tape.Overwrite(norm.Y);
        if (norm.Centered)
        {
            _kernels.LayerNorm(norm.X, norm.Weight!, norm.Bias, norm.Epsilon, norm.Y);
        }
        else
        {
            _kernels.RmsNorm(norm.X, norm.Weight, norm.Epsilon, norm.Y);
        }

        if (flows)
        {
            tape.Record(norm.Y, dy => NormBackward(norm, dy, saved[0].Value, scale, shift, active), saved: saved);
        }
    }

    private void NormBackward(in KeptNorm norm, Tensor dy, Tensor x, Parameter? scale, Parameter? shift, bool active)
    {
        using Tape.Sink dx = tape.Open(norm.X, active);
        if (norm.Centered)
        {
            _gradients.LayerNorm(x, norm.Weight!, norm.Epsilon, dy, dx.Gradient, scale?.Gradient, shift?.Gradient);
        }
        else
        {
            _gradients.RmsNorm(x, norm.Weight, norm.Epsilon, dy, dx.Gradient, scale?.Gradient);
        }
    }

    // The op that added to x before, if it did, finds its gradient rounded: the pass over dx writes it beside.
    private void NormKept(in KeptNorm norm, Parameter? scale, Parameter? shift, bool active)
    {
        KeptNorm kept = norm with { Kept = tape.Rent(norm.Y.Shape, norm.Y.DType), Statistics = tape.Rent(new Shape(norm.X.Shape.Rows, 2)) };
        (DType DType, bool Sums)? wish = tape.TakeWish(norm.X);
        tape.Overwrite(norm.Y);
        _gradients.NormKept(kept);
        tape.Record(norm.Y, dy =>
        {
            GradientCopy? copy = active && wish?.DType == kept.Kept.DType
                ? new(tape.Rent(kept.X.Shape, kept.Kept.DType), wish.Value.Sums ? tape.Rent(new Shape(kept.X.Shape.Columns)) : null)
                : null;
            using Tape.Sink dx = tape.OpenWritten(kept.X, active, out bool fresh);
            _gradients.NormKeptGradient(kept, new KeptNormGradient(dy, dx.Gradient, !fresh, scale?.Gradient, shift?.Gradient, copy?.Rounded, copy?.Sums));
            if (copy is not null)
            {
                tape.KeepCopy(kept.X, copy);
            }

            tape.Return(kept.Kept);
            tape.Return(kept.Statistics);
        });
    }
}
