using System.Diagnostics;
using Nibble.Tuning;

namespace Nibble.Cli;

/// <summary>The state of a training: one line that is written over on a terminal; a line every few seconds elsewhere.</summary>
internal sealed class TrainingProgress
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(5);
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _last;
    private int _done;
    private double _seconds, _tokens;

    /// <summary>Shows a step.</summary>
    public void Show(StepReport step)
    {
        _done++;
        _seconds += step.Seconds;
        _tokens += step.RunTokens;
        bool terminal = !Console.IsErrorRedirected, last = step.Step == step.Steps;
        if (!terminal && !last && _last != 0 && Stopwatch.GetElapsedTime(_last) < Pause)
        {
            return;
        }

        _last = Stopwatch.GetTimestamp();
        // Evaluations and checkpoints are part of what is left, so the clock is asked, not the steps.
        double left = (step.Steps - step.Step) * Stopwatch.GetElapsedTime(_start).TotalSeconds / _done;
        string text = $"step {step.Step}/{step.Steps}  loss {step.Loss:F4}  norm {step.GradientNorm:F2}  lr {step.LearningRate:E1}  {_tokens / _seconds:N0} tokens/s"
            + $"  {Sizes.Text(Environment.WorkingSet)}  {Left(left)} left";
        Console.Error.Write(terminal ? "\r\x1b[K" + Fitting(text) + (last ? "\n" : string.Empty) : text + "\n");
    }

    // A line that wraps cannot be written over: every step would leave one more on the screen.
    private static string Fitting(string text)
    {
        int width = Output.Human.Profile.Width - 1;
        string shorter = text.Length <= width ? text : text.Replace("  ", " ", StringComparison.Ordinal);
        return shorter.Length <= width ? shorter : shorter[..Math.Max(width, 0)];
    }

    private static string Left(double seconds) => seconds < 100 ? $"{seconds:F0} s" : seconds < 6000 ? $"{seconds / 60:F0} min" : $"{seconds / 3600:F1} h";
}
