namespace Nibble.Bench.Benches;

/// <summary>The figures of the processor's engine in one go, each beside its limit or peer of the same rounds; some minutes.</summary>
internal static class CpuAll
{
    private const int MostRounds = 5;

    private static readonly (string Name, Action<BenchOptions, BenchReport> Body)[] Parts =
    [
        ("roofline", Roofline.Run),
        ("forkjoin", ForkJoin.Run),
        ("sgemm", Sgemm.Run),
        ("qgemm", QuantGemm.Run),
        ("igemm", IntegerGemm.Run),
        ("gemv", Gemv.Run),
        ("qgemv", QuantGemv.RunLarge),
        ("models", ModelSpeed.Run),
        ("step", DecodeProfile.Run),
    ];

    public static void Run(BenchOptions options, BenchReport report)
    {
        BenchOptions shorter = options with { Rounds = Math.Min(options.Rounds, MostRounds) };
        foreach ((string name, Action<BenchOptions, BenchReport> body) in Parts)
        {
            report.Begin(name);
            body(shorter, report);
        }
    }
}
