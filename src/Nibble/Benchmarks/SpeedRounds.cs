using Nibble.Evaluation;

namespace Nibble.Benchmarks;

/// <summary>What one number of threads gave in each round. Shares are taken round by round, so that slow spells of the machine cancel.</summary>
internal sealed class SpeedRounds
{
    private readonly List<double> _prefill = [], _decode = [], _read = [], _peerPrefill = [], _peerDecode = [];

    /// <summary>Adds a round: tokens and bytes per second, null for what is not measured.</summary>
    public void Add(double? prefill, double? decode, double? read, double? peerPrefill, double? peerDecode)
    {
        AddTo(_prefill, prefill);
        AddTo(_decode, decode);
        AddTo(_read, read);
        AddTo(_peerPrefill, peerPrefill);
        AddTo(_peerDecode, peerDecode);
    }

    /// <summary>Writes the metrics.</summary>
    public void Report(ResultBuilder result, SpeedOptions options, double bytesPerToken)
    {
        AddRate(result, "prefill_tokens_per_second", _prefill);
        AddRate(result, "decode_tokens_per_second", _decode);
        AddRate(result, "peer_prefill_tokens_per_second", _peerPrefill);
        AddRate(result, "peer_decode_tokens_per_second", _peerDecode);
        if (_prefill.Count > 0)
        {
            result.Add("ttft_ms", _prefill.Average(rate => 1e3 * options.Prompt / rate));
        }

        if (_decode.Count > 0)
        {
            result.Add("bytes_per_token", bytesPerToken);
            result.Add("raw_read_bytes_per_second", _read.Average());
            result.Add("decode_read_share", Ratio(_decode, _read) * bytesPerToken);
        }

        AddRatio(result, "prefill_over_peer", _prefill, _peerPrefill);
        AddRatio(result, "decode_over_peer", _decode, _peerDecode);
    }

    /// <summary>Standard deviation of a sample; not a number for a single value.</summary>
    internal static double StandardDeviation(IReadOnlyList<double> values)
    {
        double mean = values.Average();
        return Math.Sqrt(values.Sum(value => (value - mean) * (value - mean)) / (values.Count - 1));
    }

    private static void AddTo(List<double> values, double? value)
    {
        if (value is { } number)
        {
            values.Add(number);
        }
    }

    private static void AddRate(ResultBuilder result, string name, List<double> rates)
    {
        if (rates.Count > 0)
        {
            result.Add(name, rates.Average(), rates.Min(), rates.Max());
            result.Add(name + "_sd", StandardDeviation(rates));
        }
    }

    private static void AddRatio(ResultBuilder result, string name, List<double> ours, List<double> theirs)
    {
        if (ours.Count > 0 && theirs.Count > 0)
        {
            result.Add(name, Ratio(ours, theirs));
        }
    }

    private static double Ratio(List<double> ours, List<double> theirs) => ours.Zip(theirs, (our, their) => our / their).Average();
}
