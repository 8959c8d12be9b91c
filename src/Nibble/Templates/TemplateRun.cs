using System.Runtime.CompilerServices;
using System.Text;
using Nibble.IO;

namespace Nibble.Templates;

/// <summary>One rendering: what it may still spend, and where it stands. A template is untrusted: it can only compute with values that it was given.</summary>
internal sealed class TemplateRun(Limits limits, TimeProvider clock)
{
    private readonly StringBuilder _output = new();
    private long _steps, _characters;

    /// <summary>Line that is rendered.</summary>
    public int Line { get; set; }

    /// <summary>What <c>strftime_now</c> reads.</summary>
    public TimeProvider Clock => clock;

    /// <summary>The text so far.</summary>
    public string Text => _output.ToString();

    /// <summary>Counts one step of work.</summary>
    public void Step()
    {
        if (++_steps > limits.TemplateSteps)
        {
            Fail($"it takes more than {limits.TemplateSteps:N0} steps");
        }

        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            Fail("it is nested too deeply");
        }
    }

    /// <summary>Counts characters of strings and places of lists that an operation makes.</summary>
    public void Charge(long characters)
    {
        _characters += characters;
        if (_characters > 16L * limits.TemplateOutput)
        {
            Fail($"it makes more than {16L * limits.TemplateOutput:N0} characters of intermediate text");
        }
    }

    /// <summary>Writes text.</summary>
    public void Write(string text)
    {
        if (_output.Length + text.Length > limits.TemplateOutput)
        {
            Fail($"it writes more than {limits.TemplateOutput:N0} characters");
        }

        _output.Append(text);
    }

    /// <summary>What <paramref name="body"/> writes, as a value instead.</summary>
    public string Capture(Action body)
    {
        int start = _output.Length;
        body();
        string text = _output.ToString(start, _output.Length - start);
        _output.Length = start;
        Charge(text.Length);
        return text;
    }

    /// <summary>Ends the rendering.</summary>
    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    public void Fail(string message) => throw new TemplateError(message, Line);
}
