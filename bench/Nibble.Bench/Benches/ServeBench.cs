using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Nibble.Benchmarks;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Server;
using Nibble.Server.OpenAi;
using Nibble.Tensors;

namespace Nibble.Bench.Benches;

/// <summary>Tokens per second of a server with one and with several clients, which read streams from the same process, beside the library's own batch of as many prompts.</summary>
internal static class ServeBench
{
    private const int NewTokens = 128;
    private static readonly int[] Clients = [1, 2, 4, 8];

    public static void Run(BenchOptions options, BenchReport report) =>
        Run(options, report, new LoadOptions { Threads = options.Threads, Activations = ActivationChoice.Auto }, string.Empty);

    /// <summary>The same on an NVIDIA card, in F32 and BF16, and how many answers are the texts that their prompts give alone.</summary>
    public static void OnCard(BenchOptions options, BenchReport report)
    {
        foreach (DType type in new[] { DType.F32, DType.BF16 })
        {
            Run(options, report, new LoadOptions { Device = "cuda", Dtype = type }, $"{type}, ");
        }
    }

    private static void Run(BenchOptions options, BenchReport report, LoadOptions load, string kind)
    {
        using LoadedModel model = LoadedModel.Load(options.Model ?? AssetFolder.Find("assets/nibble-gpt2-10m"), load);
        using OpenAiServer server = new(model, new ListenAddress(Port: 0));
        server.Application.StartAsync().GetAwaiter().GetResult();
        using HttpClient client = new() { BaseAddress = LocalServer.AddressOf(server.Application), Timeout = TimeSpan.FromMinutes(10) };
        double[][] rates = Clock.Rounds(options.Rounds, [.. Clients.SelectMany(count => new Func<double>[] { () => Library(model, count), () => Served(client, count).GetAwaiter().GetResult().Rate })]);
        double[] alone = rates[0];
        for (int i = 0; i < Clients.Length; i++)
        {
            (double[] library, double[] served) = (rates[2 * i], rates[(2 * i) + 1]);
            report.Add($"{server.Name}, {kind}{Clients[i]} in a batch of generate", library, "tok/s", [.. library.Zip(alone, (a, b) => a / b)], "one");
            report.Add($"{server.Name}, {kind}{Clients[i]} clients of serve", served, "tok/s", [.. served.Zip(library, (a, b) => a / b)], "that batch");
        }

        string[] together = Served(client, Clients[^1]).GetAwaiter().GetResult().Texts;
        double same = together.Where((text, i) => text == Alone(model, i)).Count();
        report.Add($"{server.Name}, {kind}answers of {Clients[^1]} clients that are their prompts' own", [same], "texts");
        server.Application.StopAsync().GetAwaiter().GetResult();
    }

    private static string Alone(LoadedModel model, int number)
    {
        using Generator generator = model.CreateGenerator([Prompt(number)], new GenerationOptions { MaxTokens = NewTokens, IgnoreEos = true });
        return string.Concat(generator.Run().Select(token => token.Text));
    }

    // No two begin alike: nothing of a prompt is kept.
    private static string Prompt(int number) => $"{number + 1} numbers:\ndef function_{number}(first, second):\n";

    private static double Library(LoadedModel model, int count)
    {
        long start = Stopwatch.GetTimestamp();
        using Generator generator = model.CreateGenerator([.. Enumerable.Range(0, count).Select(Prompt)], new GenerationOptions { MaxTokens = NewTokens, IgnoreEos = true });
        return generator.Run().Count() / Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static async Task<(double Rate, string[] Texts)> Served(HttpClient client, int count)
    {
        long start = Stopwatch.GetTimestamp();
        (int Tokens, string Text)[] answers = await Task.WhenAll(Enumerable.Range(0, count).Select(i => Stream(client, Prompt(i))));
        return (answers.Sum(answer => answer.Tokens) / Stopwatch.GetElapsedTime(start).TotalSeconds, [.. answers.Select(answer => answer.Text)]);
    }

    private static async Task<(int Tokens, string Text)> Stream(HttpClient client, string prompt)
    {
        object body = new { prompt, max_tokens = NewTokens, temperature = 0, ignore_eos = true, stream = true, stream_options = new { include_usage = true } };
        using HttpRequestMessage request = new(HttpMethod.Post, "/v1/completions") { Content = new StringContent(JsonSerializer.Serialize(body), Encoding.UTF8, "application/json") };
        using HttpResponseMessage response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        using StreamReader reader = new(await response.Content.ReadAsStreamAsync());
        StringBuilder text = new();
        int tokens = 0;
        while (await reader.ReadLineAsync() is { } line && line != "data: [DONE]")
        {
            if (line.Length == 0)
            {
                continue;
            }

            using JsonDocument piece = JsonDocument.Parse(line["data: ".Length..]);
            foreach (JsonElement choice in piece.RootElement.GetProperty("choices").EnumerateArray())
            {
                text.Append(choice.GetProperty("text").GetString());
            }

            // The last event alone has it.
            tokens = piece.RootElement.TryGetProperty("usage", out JsonElement usage) && usage.ValueKind == JsonValueKind.Object ? usage.GetProperty("completion_tokens").GetInt32() : tokens;
        }

        return (tokens, text.ToString());
    }
}
