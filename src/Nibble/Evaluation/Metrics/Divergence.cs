using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Nibble.Evaluation.Metrics;

/// <summary>
/// How far a model's distribution over the next token is from the baseline's. Optimized from the first call on: a measurement of a
/// few seconds is over before the runtime would optimize it.
/// </summary>
public static class Divergence
{
    /// <summary>
    /// KL(baseline ‖ model) in nats from logits, which may be shifted by any constant:
    /// Σ p·(z_b − z_m) − log Σ e^z_b + log Σ e^z_m.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Kl(ReadOnlySpan<float> baseline, ReadOnlySpan<float> model)
    {
        (float baseShift, float modelShift) = (Largest(baseline), Largest(model));
        (double baseSum, double weighted, double modelSum) = (0, 0, 0);
        int vectors = baseline.Length / Vector256<float>.Count;
        ReadOnlySpan<Vector256<float>> baseVectors = MemoryMarshal.Cast<float, Vector256<float>>(baseline);
        ReadOnlySpan<Vector256<float>> modelVectors = MemoryMarshal.Cast<float, Vector256<float>>(model);
        Vector256<float> baseShifts = Vector256.Create(baseShift);
        Vector256<float> modelShifts = Vector256.Create(modelShift);
        for (int i = 0; i < vectors; i++)
        {
            Vector256<float> b = baseVectors[i] - baseShifts;
            Vector256<float> m = modelVectors[i] - modelShifts;
            Vector256<float> e = Vector256.Exp(b);
            baseSum += Vector256.Sum(e);
            weighted += Vector256.Sum(e * (b - m));
            modelSum += Vector256.Sum(Vector256.Exp(m));
        }

        for (int i = vectors * Vector256<float>.Count; i < baseline.Length; i++)
        {
            double e = Math.Exp(baseline[i] - baseShift);
            baseSum += e;
            weighted += e * (baseline[i] - baseShift - (model[i] - modelShift));
            modelSum += Math.Exp(model[i] - modelShift);
        }

        // Rounding may leave −1e-8 where the two are equal.
        return Math.Max(0, (weighted / baseSum) - Math.Log(baseSum) + Math.Log(modelSum));
    }

    /// <summary>The first of the largest logits.</summary>
    public static int Best(ReadOnlySpan<float> logits)
    {
        float largest = Largest(logits);
        return logits.IndexOf(largest);
    }

    /// <summary>The largest logit.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Largest(ReadOnlySpan<float> logits)
    {
        Vector256<float> best = Vector256.Create(float.NegativeInfinity);
        ReadOnlySpan<Vector256<float>> vectors = MemoryMarshal.Cast<float, Vector256<float>>(logits);
        foreach (Vector256<float> vector in vectors)
        {
            best = Vector256.Max(best, vector);
        }

        float largest = float.NegativeInfinity;
        for (int i = 0; i < Vector256<float>.Count; i++)
        {
            largest = Math.Max(largest, best[i]);
        }

        foreach (float logit in logits[(vectors.Length * Vector256<float>.Count)..])
        {
            largest = Math.Max(largest, logit);
        }

        return largest;
    }
}
