namespace Nibble.Cli;

/// <summary>Every verb, in the order of the help page.</summary>
internal static class Verbs
{
    public static IReadOnlyList<IVerb> All { get; } =
    [
        new DemoVerb(),
        new EvalVerb(),
        new CompareVerb(),
        new RecommendVerb(),
        new GenerateVerb(),
        new ChatVerb(),
        new ServeVerb(),
        new FinetuneVerb(),
        new MergeVerb(),
        new QuantizeVerb(),
        new ConvertVerb(),
        new BenchVerb(),
        new RunsVerb(),
        new DashboardVerb(),
        new PullVerb(),
        new CacheVerb(),
        new ShowVerb(),
        new EstimateVerb(),
        new DevicesVerb(),
        new DoctorVerb(),
        new CompletionVerb(),
    ];
}
