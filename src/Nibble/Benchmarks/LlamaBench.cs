using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Nibble.IO;

namespace Nibble.Benchmarks;

/// <summary>The peer: llama.cpp's llama-bench, a program that the user names, on a model that the user names.</summary>
/// <param name="Program">Path of llama-bench.</param>
/// <param name="Model">Path of a GGUF file.</param>
public sealed record LlamaBench(string Program, string Model)
{
    /// <summary>Refuses paths that do not exist.</summary>
    internal void Require()
    {
        foreach (string path in new[] { Program, Model }.Where(path => !File.Exists(path)))
        {
            Throw.NotFound($"{path} does not exist", "the peer is a program and a model of your own", "give --peer llama-bench=PATH and --peer-model FILE.gguf");
        }
    }

    /// <summary>Tokens per second of a prompt; null if none is measured.</summary>
    internal double? Prefill(int threads, int prompt, CancellationToken cancellation) =>
        prompt == 0 ? null : Run(threads, prompt, 0, 0, cancellation);

    /// <summary>Tokens per second of decoding; null if none is measured.</summary>
    internal double? Decode(int threads, int tokens, int depth, CancellationToken cancellation) =>
        tokens == 0 ? null : Run(threads, 0, tokens, depth, cancellation);

    /// <summary>The rate in what llama-bench prints with <c>-o json</c>: an array with one element for each test.</summary>
    internal static double Rate(string json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            return document.RootElement[0].GetProperty("avg_ts").GetDouble();
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or KeyNotFoundException or IndexOutOfRangeException)
        {
            Throw.BadInput("the peer's answer is not understood", "expected the JSON of llama-bench -o json, with avg_ts", "use a llama-bench that has -o json", error);
            return 0;
        }
    }

    private double Run(int threads, int prompt, int tokens, int depth, CancellationToken cancellation)
    {
        List<string> arguments = ["-m", Model, "-p", Text(prompt), "-n", Text(tokens), "-t", Text(threads), "-r", "1", "-o", "json"];
        if (depth > 0)
        {
            arguments.AddRange(["-d", Text(depth)]);
        }

        ProcessStartInfo start = new(Program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        using CancellationTokenRegistration stop = cancellation.Register(() => process.Kill(entireProcessTree: true));
        Task<string> errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        cancellation.ThrowIfCancellationRequested();
        if (process.ExitCode != 0)
        {
            string last = errors.Result.Trim().Split('\n')[^1];
            Throw.Failed($"{Program} {string.Join(' ', arguments)} ended with {process.ExitCode}", last, "run it alone to see more");
        }

        return Rate(output);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
