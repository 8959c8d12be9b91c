using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Nibble.Benchmarks;
using Nibble.Generation;
using Nibble.IO;
using Nibble.Models;
using Nibble.Server;
using Nibble.Server.OpenAi;

namespace Nibble.Bench.Benches;

/// <summary>Tokens per second of a server with one and with several clients, which read streams from the same process, beside the library's own batch of as many prompts.</summary>
internal static class ServeBench
{
    private const int NewTokens = 128;
    private static readonly int[] Clients = [1, 2, 4, 8];

    public static void Run(BenchOptions options, BenchReport report)
    {
        using LoadedModel model = LoadedModel.Load(options.Model ?? AssetFolder.Find("assets/nibble-gpt2-10m"), new LoadOptions { Threads = options.Threads, Activations = ActivationChoice.Auto });
        using OpenAiServer server = new(model, new ListenAddress(Port: 0));
        server.Application.StartAsync().GetAwaiter().GetResult();
        using HttpClient client = new() { BaseAddress = LocalServer.AddressOf(server.Application), Timeout = TimeSpan.FromMinutes(10) };
        double[][] rates = Clock.Rounds(options.Rounds, [.. Clients.SelectMany(count => new Func<double>[] { () => Library(model, count), () => Served(client, count).GetAwaiter().GetResult() })]);
        double[] alone = rates[0];
        for (int i = 0; i < Clients.Length; i++)
        {
            (double[] library, double[] served) = (rates[2 * i], rates[(2 * i) + 1]);
            report.Add($"{server.Name}, {Clients[i]} in a batch of generate", library, "tok/s", [.. library.Zip(alone, (a, b) => a / b)], "one");
            report.Add($"{server.Name}, {Clients[i]} clients of serve", served, "tok/s", [.. served.Zip(library, (a, b) => a / b)], "that batch");
        }

        server.Application.StopAsync().GetAwaiter().GetResult();
    }

    // No two begin alike: nothing of a prompt is kept.
    private static string Prompt(int number) => $"{number + 1} numbers:\ndef function_{number}(first, second):\n";

    private static double Library(LoadedModel model, int count)
    {
        long start = Stopwatch.GetTimestamp();
        using Generator generator = model.CreateGenerator([.. Enumerable.Range(0, count).Select(Prompt)], new GenerationOptions { MaxTokens = NewTokens, IgnoreEos = true });
        return generator.Run().Count() / Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static async Task<double> Served(HttpClient client, int count)
    {
        long start = Stopwatch.GetTimestamp();
        int[] tokens = await Task.WhenAll(Enumerable.Range(0, count).Select(i => Stream(client, Prompt(i))));
        return tokens.Sum() / Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static async Task<int> Stream(HttpClient client, string prompt)
    {
        object body = new { prompt, max_tokens = NewTokens, temperature = 0, ignore_eos = true, stream = true, stream_options = new { include_usage = true } };
        using HttpRequestMessage request = new(HttpMethod.Post, "/v1/completions") { Content = new StringContent(JsonSerializer.Serialize(body), Encoding.UTF8, "application/json") };
        using HttpResponseMessage response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        using StreamReader reader = new(await response.Content.ReadAsStreamAsync());
        string usage = string.Empty;
        while (await reader.ReadLineAsync() is { } line && line != "data: [DONE]")
        {
            usage = line.Length > 0 ? line : usage;
        }

        using JsonDocument last = JsonDocument.Parse(usage["data: ".Length..]);
        return last.RootElement.GetProperty("usage").GetProperty("completion_tokens").GetInt32();
    }
}
