using System.Globalization;
using Nibble.Runs.Recommending;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary>A recommendation for people and for programs.</summary>
internal static class RecommendRendering
{
    public static void Show(Recommendation found, bool isDryRun)
    {
        FitTable table = new(
        [
            new("form", Wraps: true), new("weights", IsNumber: true, Wraps: true), new("+ cache", IsNumber: true, Rank: 3), new("+ rest", IsNumber: true, Rank: 2), new("= memory", IsNumber: true), new("fits"),
            new("perplexity ×", IsNumber: true, Wraps: true), new("tokens/s", IsNumber: true, Rank: 1), new("why not measured", Wraps: true),
        ]);
        foreach (RecommendCandidate candidate in found.Candidates)
        {
            RunningMemory memory = candidate.Memory;
            string loss = candidate is { Loss: { } ratio, LossInterval: { } ends } && candidate.Result is not null ? string.Create(CultureInfo.InvariantCulture, $"{ratio:0.0000} ({ends.Low:0.000}–{ends.High:0.000})") : string.Empty;
            table.AddRow(
                Markup.Escape(candidate.Method.Label), Sizes.Text(memory.WeightBytes) + (candidate.Result is null ? " (estimate)" : string.Empty), Sizes.Text(memory.CacheBytes), Sizes.Text(memory.WorkspaceBytes + memory.RuntimeBytes),
                Sizes.Text(memory.TotalBytes), candidate.Fits ? "yes" : "no", loss, candidate.Speed is { } speed ? speed.ToString("N0", CultureInfo.InvariantCulture) : string.Empty,
                Markup.Escape(isDryRun && candidate.Fits ? string.Empty : candidate.LeftOut ?? string.Empty));
        }

        table.Write(Output.Human);
        Output.Text.WriteLine($"room for {found.Request.Batch} × {found.Context:N0} tokens within {Sizes.Text(found.Request.MemoryBytes)}; quality on {found.Request.Data}, at most {found.Request.Limit:N0} tokens: yours may differ");
        if (!isDryRun)
        {
            ShowChoices(found);
        }
    }

    public static object Document(Recommendation found) => new
    {
        Schema = 1,
        Model = Nibble.Hub.HubCache.Called(found.Request.Model),
        found.Request.MemoryBytes,
        found.Context,
        BatchSize = found.Request.Batch,
        KvCache = found.Request.KvCache.ToString().ToLowerInvariant(),
        found.Request.Data,
        found.Request.Limit,
        found.Request.MaxLoss,
        Prefer = Name(found.Request.Prefer),
        Recommended = found.Chosen?.Method.Label,
        Choices = found.Choices.ToDictionary(choice => Name(choice.Key), choice => choice.Value.Method.Label),
        Candidates = found.Candidates.Select(candidate => new
        {
            candidate.Method.Label,
            candidate.Method.Method,
            candidate.Memory,
            candidate.Fits,
            PerplexityRatio = candidate.Result is null ? null : candidate.Loss,
            Interval = candidate.Result is not null && candidate.LossInterval is { } ends ? new[] { ends.Low, ends.High } : null,
            DecodeTokensPerSecond = candidate.Speed,
            Command = Command(candidate, found),
            candidate.LeftOut,
            candidate.Result,
        }),
    };

    private static void ShowChoices(Recommendation found)
    {
        foreach ((Preference preference, string what) in new[]
        {
            (Preference.Quality, "best quality, and the smallest that can't be told from it"),
            (Preference.Size, string.Create(CultureInfo.InvariantCulture, $"smallest with at most × {found.Request.MaxLoss:0.###} perplexity")),
            (Preference.Speed, string.Create(CultureInfo.InvariantCulture, $"fastest with at most × {found.Request.MaxLoss:0.###} perplexity")),
        })
        {
            string answer = found.Choices.TryGetValue(preference, out RecommendCandidate? choice) ? choice.Method.Label : "none of those that fit";
            Output.Text.MarkupLineInterpolated($"{(preference == found.Request.Prefer ? "→" : " ")} {what}: [bold]{answer}[/]");
        }

        if (found.Chosen is { } chosen)
        {
            Output.Text.WriteLine(Command(chosen, found) is { } command ? "make it:  " + command : "run the model as it is");
            Output.Text.WriteLine($"tune it:  nibble finetune {(chosen.Quantize.Count > 0 ? "OUT" : found.Request.Model)} --method {(chosen.Quantize.Count > 0 ? "qlora" : "lora")} --data FILE -o tuned --dry-run   # says what it takes");
        }
        else
        {
            long least = found.Candidates.Min(candidate => candidate.Memory.TotalBytes);
            Output.Text.WriteLine($"nothing to recommend: the smallest form takes {Sizes.Text(least)}; more memory, a shorter --context, --kv-cache int8 or a larger --max-loss may help");
        }
    }

    private static string? Command(RecommendCandidate candidate, Recommendation found) =>
        candidate.Quantize.Count == 0 ? null : "nibble " + string.Join(' ', candidate.Quantize.Select((argument, i) => i == 1 ? found.Request.Model : argument).Select(Quoted)) + " -o OUT";

    private static string Quoted(string argument) => argument.Any(char.IsWhiteSpace) ? $"\"{argument}\"" : argument;

    private static string Name(Preference preference) => preference.ToString().ToLowerInvariant();
}
