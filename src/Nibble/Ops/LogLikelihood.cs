using Nibble.Backends;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Ops;

/// <summary>log p(target) of a language model's head, without all logits in memory.</summary>
public static class LogLikelihood
{
    /// <summary>
    /// hidden <c>[rows, in]</c>, targets I32 <c>[rows]</c> (negative: not scored, result 0), logProbabilities <c>[rows]</c>; best, if
    /// given, gets the most likely token.
    /// </summary>
    /// <exception cref="ArgumentException">The shapes do not fit, or a target is not in the vocabulary.</exception>
    public static void Forward(
        IBackend backend, Tensor hidden, IPackedWeight head, Tensor? bias, Tensor targets, Tensor logProbabilities, Tensor? best, Workspace workspace)
    {
        Check.Float("log-likelihood", "hidden", hidden);
        if (hidden.Shape.Columns != head.In)
        {
            Throw.Argument("log-likelihood", $"hidden {hidden.Shape} does not fit the head [{head.Out}, {head.In}]");
        }

        nint rows = hidden.Shape.Rows;
        Check.Vector("log-likelihood", "bias", bias, head.Out);
        Check.Indices("log-likelihood", "targets", targets, rows);
        Check.Range("log-likelihood", "targets", targets, int.MinValue, head.Out);
        Check.Vector("log-likelihood", "logProbabilities", logProbabilities, rows);
        Check.Indices("log-likelihood", "best", best, rows);
        backend.Kernels.LogLikelihood(hidden, head, bias, targets, logProbabilities, best, workspace);
    }

    /// <summary>The definition, in double precision; head is F32 <c>[vocabulary, in]</c>.</summary>
    internal static void Reference(Tensor hidden, Tensor head, Tensor? bias, Tensor targets, Tensor logProbabilities, Tensor? best)
    {
        (int vocabulary, int depth) = ((int)head.Shape[0], (int)head.Shape[1]);
        double[] logits = new double[vocabulary];
        for (int row = 0; row < (int)hidden.Shape.Rows; row++)
        {
            for (int token = 0; token < vocabulary; token++)
            {
                logits[token] = bias is null ? 0 : bias.HostSpan<float>()[token];
                for (int k = 0; k < depth; k++)
                {
                    logits[token] += (double)hidden.HostSpan<float>()[(row * depth) + k] * head.HostSpan<float>()[(token * depth) + k];
                }
            }

            double largest = logits.Max();
            int target = targets.HostSpan<int>()[row];
            double sum = logits.Sum(logit => Math.Exp(logit - largest));
            logProbabilities.HostSpan<float>()[row] = target < 0 ? 0 : (float)(logits[target] - largest - Math.Log(sum));
            if (best is not null)
            {
                best.HostSpan<int>()[row] = Array.IndexOf(logits, largest);
            }
        }
    }
}
