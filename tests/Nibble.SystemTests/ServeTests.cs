using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json;
using Xunit;

namespace Nibble.SystemTests;

/// <summary>nibble serve as a process of its own: it starts, answers many at once, and ends when it is told to.</summary>
public sealed class ServeTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private readonly string _folder = Directory.CreateTempSubdirectory("nibble-serve-").FullName;
    private readonly StringBuilder _errors = new();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [SkippableFact]
    public async Task ItServesManyAndEndsWithCtrlC()
    {
        Interruptions.SkipIfIgnored();
        (Process process, HttpClient client) = await Start();
        using (process)
        using (client)
        using (Timer _ = new(_ => process.Kill(), null, Patience, Timeout.InfiniteTimeSpan))
        {
            string[] texts = await Task.WhenAll(Enumerable.Range(0, 6).Select(i => Text(client, i)));
            Assert.Equal([.. texts.Take(3)], texts.Skip(3));
            Assert.Equal(3, texts.Distinct().Count());
            // An answer under way is ended, not cut off: its stream says so.
            using HttpRequestMessage request = new(HttpMethod.Post, "/v1/completions")
            {
                Content = Body(new { prompt = "def ", n = 64, max_tokens = 500, ignore_eos = true, stream = true }),
            };
            using HttpResponseMessage response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
            using StreamReader events = new(await response.Content.ReadAsStreamAsync());
            Assert.StartsWith("data: {", await events.ReadLineAsync(), StringComparison.Ordinal);
            Process.Start("kill", ["-INT", $"{process.Id}"]).WaitForExit();
            string rest = await events.ReadToEndAsync();
            Assert.True(rest.EndsWith("data: [DONE]\n\n", StringComparison.Ordinal) || rest.Contains("being stopped", StringComparison.Ordinal), rest[^Math.Min(rest.Length, 500)..]);
            await process.WaitForExitAsync();
            Assert.Equal(130, process.ExitCode);
        }
    }

    /// <summary>As service managers end it: that is no failure.</summary>
    [SkippableFact]
    public async Task ItEndsWithSigterm()
    {
        Skip.IfNot(OperatingSystem.IsLinux(), "signals are tried on Linux alone");
        (Process process, HttpClient client) = await Start("--api-key", "secret", "--name", "mine");
        using (process)
        using (client)
        using (Timer _ = new(_ => process.Kill(), null, Patience, Timeout.InfiniteTimeSpan))
        {
            Assert.Equal(HttpStatusCode.Unauthorized, (await client.GetAsync(new Uri("/v1/models", UriKind.Relative))).StatusCode);
            client.DefaultRequestHeaders.Authorization = new("Bearer", "secret");
            Assert.Contains("\"mine\"", await client.GetStringAsync(new Uri("/v1/models", UriKind.Relative)), StringComparison.Ordinal);
            Process.Start("kill", ["-TERM", $"{process.Id}"]).WaitForExit();
            await process.WaitForExitAsync();
            Assert.Equal(0, process.ExitCode);
        }
    }

    [Theory]
    [InlineData("without a key", "--host", "0.0.0.0")]
    [InlineData("contradict", "--api-key", "a", "--no-api-key")]
    [InlineData("--api-key: the value is empty", "--api-key", "")]
    [InlineData("--parallel 0", "--parallel", "0")]
    [InlineData("from 1 to 1024", "--parallel", "100000")]
    [InlineData("port 70000", "--port", "70000")]
    [InlineData("no page has this origin", "--allow-origin", "localhost:3000")]
    [InlineData("no page has this origin", "--allow-origin", "*", "--allow-origin", "http://localhost:3000/chat")]
    [InlineData("neither an address", "--host", "example.org", "--no-api-key")]
    public void WhatMakesNoSenseIsRefused(string message, params string[] arguments)
    {
        CliResult result = Cli.Run(["serve", _folder, .. arguments]);
        Assert.Equal((2, string.Empty), (result.ExitCode, result.Output));
        Assert.Contains(message, result.Errors, StringComparison.Ordinal);
    }

    [Fact]
    public void ATakenPortIsSaid()
    {
        using System.Net.Sockets.TcpListener other = new(IPAddress.Loopback, 0);
        other.Start();
        string model = Path.Combine(_folder, "model");
        TinyModel.Write(model);
        CliResult result = Cli.Run("serve", model, "--port", $"{((IPEndPoint)other.LocalEndpoint).Port}");
        Assert.Equal((5, string.Empty), (result.ExitCode, result.Output));
        Assert.Contains("the port is taken", result.Errors, StringComparison.Ordinal);
    }

    private static StringContent Body(object body) => new(JsonSerializer.Serialize(body), Encoding.UTF8, "application/json");

    private static async Task<string> Text(HttpClient client, int number)
    {
        using HttpResponseMessage response = await client.PostAsync(
            new Uri("/v1/completions", UriKind.Relative), Body(new { prompt = $"def add{number % 3}(", max_tokens = 20, temperature = 1, seed = 7 }));
        using JsonDocument document = JsonDocument.Parse(await response.Content.ReadAsStringAsync());
        return document.RootElement.GetProperty("choices")[0].GetProperty("text").GetString()!;
    }

    /// <summary>Starts it on a free port, which it tells on stderr.</summary>
    private async Task<(Process Process, HttpClient Client)> Start(params string[] arguments)
    {
        string model = Path.Combine(_folder, "model");
        TinyModel.Write(model);
        ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll"), "serve", model, "--port", "0", .. arguments]) { RedirectStandardError = true };
        Process process = Process.Start(start)!;
        TaskCompletionSource<Uri> address = new(TaskCreationOptions.RunContinuationsAsynchronously);
        process.ErrorDataReceived += (_, line) =>
        {
            _errors.AppendLine(line.Data);
            if (line.Data?.Split(' ').FirstOrDefault(word => word.StartsWith("http://", StringComparison.Ordinal)) is { } found)
            {
                address.TrySetResult(new Uri(found));
            }
            else if (line.Data is null)
            {
                address.TrySetException(new InvalidOperationException(_errors.ToString()));
            }
        };
        process.BeginErrorReadLine();
        return (process, new HttpClient { BaseAddress = await address.Task.WaitAsync(Patience), Timeout = Patience });
    }
}
