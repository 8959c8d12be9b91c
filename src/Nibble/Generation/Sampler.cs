using System.Collections.ObjectModel;
using System.Numerics;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Generation;

/// <summary>
/// Chooses the next token from logits, in the order of transformers: repetition penalty, what is added (presence and frequency penalty, biases),
/// temperature, top-k, top-p, min-p.
/// </summary>
internal sealed class Sampler(GenerationOptions options, int vocabulary)
{
    private readonly ulong _key = CounterRandom.Key((ulong)options.Seed);
    private readonly float[] _weights = new float[vocabulary];
    private readonly int[] _candidates = new int[vocabulary];
    private readonly bool _adds = options.PresencePenalty != 0 || options.FrequencyPenalty != 0 || options.LogitBias.Count > 0;

    /// <summary>The <paramref name="number"/>-th new token of a row whose tokens so far are <paramref name="seen"/>, the new ones <paramref name="generated"/>.</summary>
    public int Next(ReadOnlySpan<float> logits, HashSet<int> seen, int number, IReadOnlyDictionary<int, int>? generated = null)
    {
        ReadOnlySpan<float> scores = options.RepetitionPenalty == 1 && !_adds ? logits : Change(logits, seen, generated);
        float largest = Largest(scores);
        if (!float.IsFinite(largest))
        {
            Throw.Failed("the model's logits are not finite", $"the largest is {largest}", "the weights may be damaged: check them with nibble show");
        }

        return options.Temperature == 0 ? scores.IndexOf(largest) : Draw(scores, largest, CounterRandom.Uniform(_key, (ulong)number));
    }

    private float[] Change(ReadOnlySpan<float> logits, HashSet<int> seen, IReadOnlyDictionary<int, int>? generated)
    {
        logits.CopyTo(_weights);
        float penalty = (float)options.RepetitionPenalty;
        foreach (int token in penalty == 1 ? [] : seen)
        {
            _weights[token] = logits[token] < 0 ? logits[token] * penalty : logits[token] / penalty;
        }

        foreach ((int token, int count) in generated ?? ReadOnlyDictionary<int, int>.Empty)
        {
            _weights[token] -= (float)(options.PresencePenalty + (count * options.FrequencyPenalty));
        }

        foreach ((int token, float bias) in options.LogitBias)
        {
            _weights[token] += bias;
        }

        return _weights;
    }

    private int Draw(ReadOnlySpan<float> scores, float largest, double uniform)
    {
        // Infinity times the zero of the largest would be no number.
        float inverse = (float)Math.Min(1 / options.Temperature, float.MaxValue);
        double sum = 0;
        for (int id = 0; id < scores.Length; id++)
        {
            _weights[id] = MathF.Exp((scores[id] - largest) * inverse);
            sum += _weights[id];
        }

        int count = Candidates(ref sum);
        double target = uniform * sum;
        for (int i = 0; i < count; i++)
        {
            target -= _weights[_candidates[i]];
            if (target < 0)
            {
                return _candidates[i];
            }
        }

        // Rounding can leave a rest of the sum: it belongs to the last token that can be drawn at all.
        return _candidates[Array.FindLastIndex(_candidates, count - 1, id => _weights[id] > 0)];
    }

    /// <summary>Fills the candidates; returns their number and sets the sum of their weights.</summary>
    private int Candidates(ref double sum)
    {
        bool topK = options.TopK > 0 && options.TopK < vocabulary;
        if (!topK && options.TopP >= 1)
        {
            int all = Collect((float)options.MinP);
            sum = options.MinP > 0 ? Sum(all) : sum;
            return all;
        }

        // A token lighter than this is in no nucleus: with all its like it does not make up the rest 1 − p.
        int count = topK ? Collect(KthLargest(options.TopK)) : Collect((float)((1 - options.TopP) * sum / vocabulary));
        Array.Sort(_candidates, 0, count, Comparer<int>.Create((a, b) => _weights[a] != _weights[b] ? _weights[b].CompareTo(_weights[a]) : a.CompareTo(b)));
        if (topK)
        {
            count = Math.Min(count, options.TopK);
            sum = Sum(count);
        }

        if (options.TopP < 1)
        {
            count = Nucleus(count, options.TopP * sum);
            sum = Sum(count);
        }

        if (options.MinP > 0)
        {
            // The heaviest comes first and weighs 1.
            count = Array.FindLastIndex(_candidates, count - 1, id => _weights[id] >= (float)options.MinP) + 1;
            sum = Sum(count);
        }

        return count;
    }

    private int Collect(float least)
    {
        int count = 0;
        for (int id = 0; id < _weights.Length; id++)
        {
            if (_weights[id] >= least)
            {
                _candidates[count++] = id;
            }
        }

        return count;
    }

    private float KthLargest(int k)
    {
        PriorityQueue<float, float> largest = new(k + 1);
        foreach (float weight in _weights)
        {
            if (largest.Count < k)
            {
                largest.Enqueue(weight, weight);
            }
            else if (weight > largest.Peek())
            {
                largest.EnqueueDequeue(weight, weight);
            }
        }

        return largest.Peek();
    }

    private int Nucleus(int count, double mass)
    {
        double sum = 0;
        for (int i = 0; i < count; i++)
        {
            sum += _weights[_candidates[i]];
            if (sum >= mass)
            {
                return i + 1;
            }
        }

        return count;
    }

    private double Sum(int count)
    {
        double sum = 0;
        for (int i = 0; i < count; i++)
        {
            sum += _weights[_candidates[i]];
        }

        return sum;
    }

    private static float Largest(ReadOnlySpan<float> values)
    {
        Vector<float> vector = new(float.NegativeInfinity);
        int i = 0;
        for (; i <= values.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            vector = Vector.Max(vector, new Vector<float>(values[i..]));
        }

        float largest = float.NegativeInfinity;
        for (int lane = 0; lane < Vector<float>.Count; lane++)
        {
            largest = MathF.Max(largest, vector[lane]);
        }

        for (; i < values.Length; i++)
        {
            largest = MathF.Max(largest, values[i]);
        }

        return largest;
    }
}
