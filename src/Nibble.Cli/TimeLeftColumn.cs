using Spectre.Console;
using Spectre.Console.Rendering;

namespace Nibble.Cli;

/// <summary>
/// The time left of a work, from the time that its finished share took. (Spectre's own column goes by the speed of the last moment, and
/// ends the process where that is so small that the time overflows.)
/// </summary>
internal sealed class TimeLeftColumn : ProgressColumn
{
    protected override bool NoWrap => true;

    /// <summary>Minutes and seconds, or hours and minutes; nothing where it can't be told.</summary>
    public static string Text(double share, TimeSpan elapsed)
    {
        double seconds = share > 0 ? elapsed.TotalSeconds * (1 - Math.Min(share, 1)) / share : double.PositiveInfinity;
        return seconds switch
        {
            < 100 => $"{seconds:F0} s left",
            < 6000 => $"{seconds / 60:F0} min left",
            < 360_000 => $"{seconds / 3600:F1} h left",
            _ => string.Empty,
        };
    }

    public override IRenderable Render(RenderOptions options, ProgressTask task, TimeSpan deltaTime) =>
        new Text(Text(task.Percentage / 100, task.ElapsedTime ?? TimeSpan.Zero), new Style(Color.Blue));
}
