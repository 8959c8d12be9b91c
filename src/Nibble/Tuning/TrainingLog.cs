using System.Globalization;
using System.Text;
using System.Text.Json;
using Nibble.IO;

namespace Nibble.Tuning;

/// <summary>What stays of a training beside its weights: one JSON object a step, and the loss as a picture.</summary>
internal static class TrainingLog
{
    private const int Width = 720, Height = 300, Margin = 48;

    private static readonly JsonSerializerOptions Options = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static void Write(string folder, IReadOnlyList<StepReport> log)
    {
        StringBuilder lines = new();
        foreach (StepReport step in log)
        {
            lines.Append(JsonSerializer.Serialize(step, Options)).Append('\n');
        }

        AtomicFile.WriteAllText(Path.Combine(folder, "training_log.jsonl"), lines.ToString());
        if (log.Count > 0)
        {
            AtomicFile.WriteAllText(Path.Combine(folder, "loss.svg"), Svg(log));
        }
    }

    private static string Svg(IReadOnlyList<StepReport> log)
    {
        (double low, double high) = (log.Min(step => step.Loss), log.Max(step => step.Loss));
        double range = Math.Max(high - low, 1e-9);
        int first = log[0].Step, last = Math.Max(log[^1].Step, first + 1);
        string points = string.Join(' ', log.Select(step => string.Create(
            CultureInfo.InvariantCulture,
            $"{Margin + ((Width - (2.0 * Margin)) * (step.Step - first) / (last - first)):F1},{Margin + ((Height - (2.0 * Margin)) * (high - step.Loss) / range):F1}")));
        return string.Create(
            CultureInfo.InvariantCulture,
            $"""
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {Width} {Height}" font-family="sans-serif" font-size="12">
            <rect width="{Width}" height="{Height}" fill="white"/>
            <path d="M{Margin} {Margin}V{Height - Margin}H{Width - Margin}" fill="none" stroke="#888"/>
            <polyline points="{points}" fill="none" stroke="#0a58ca" stroke-width="1.5"/>
            <text x="8" y="{Margin + 4}">{high:F3}</text><text x="8" y="{Height - Margin}">{low:F3}</text>
            <text x="{Margin}" y="{Height - 24}">step {first}</text><text x="{Width - Margin}" y="{Height - 24}" text-anchor="end">{last}</text>
            <text x="{Width / 2}" y="24" text-anchor="middle">training loss, nats a token</text>
            </svg>

            """);
    }
}
