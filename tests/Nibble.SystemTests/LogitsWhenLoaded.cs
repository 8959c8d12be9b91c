using System.CommandLine;
using System.Diagnostics;
using System.Security.Cryptography;
using Nibble.Backends;
using Nibble.Cli;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.SystemTests;

/// <summary>A hash over the logits of a fixed sequence: equal hashes mean equal bits.</summary>
internal static class LogitsWhenLoaded
{
    private static readonly int[] Tokens = [5, 17, 3, 44, 80, 2, 61, 9, 33, 12];

    /// <summary>Of a dense model that is quantized while it loads, with the options of the command.</summary>
    public static string Digest(string path, string[] options)
    {
        QuantizationOptions quantization = new();
        Command command = new("test");
        quantization.AddTo(command);
        return Digest(path, quantization.Request(command.Parse(options)));
    }

    /// <summary>Of a model as it stands.</summary>
    public static string Digest(string path, PlanRequest? request = null)
    {
        using LoadedModel loaded = LoadedModel.Load(path, new LoadOptions { Quantization = request });
        using TokenBatch batch = TokenBatch.PadRight(loaded.Model, [Tokens]);
        using Workspace workspace = new(loaded.Backend);
        using KvCache cache = new(loaded.Model, 1, Tokens.Length);
        Tensor hidden = loaded.Model.Forward(batch.Input, cache, workspace);
        Tensor logits = workspace.Rent(new Shape(Tokens.Length, loaded.Facts.Vocabulary));
        loaded.Model.Logits(hidden, logits);
        byte[] bytes = new byte[logits.ByteLength];
        loaded.Backend.CopyToHost(logits, bytes);
        return Convert.ToHexString(SHA256.HashData(bytes));
    }

    /// <summary>Of a model, computed by another process.</summary>
    public static string InFreshProcess(string path)
    {
        ProcessStartInfo start = new("dotnet", [typeof(Victim).Assembly.Location, "logits", path]) { RedirectStandardOutput = true };
        using Process process = Process.Start(start)!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return output.Trim();
    }
}
