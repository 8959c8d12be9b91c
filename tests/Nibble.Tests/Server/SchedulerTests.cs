using System.Net;
using System.Text;
using System.Text.Json;
using Nibble.Generation;
using Nibble.Server.OpenAi;
using Nibble.Tensors;

namespace Nibble.Tests.Server;

/// <summary>Many clients at once: each gets what it would get alone, those without a place are told, those that go away make room.</summary>
public class SchedulerTests
{
    private const string Completions = "/v1/completions";

    private const int Many = 20;

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task RequestsTogetherGetWhatEachGetsAlone(int parallel)
    {
        using ServerRun run = new(new ServeOptions { Parallel = parallel });
        (string Prompt, GenerationOptions Options)[] cases = [.. Enumerable.Range(0, 12).Select(i =>
            ($"def function_{i}(", new GenerationOptions { MaxTokens = 5 + (i * 3), Temperature = i % 2 * 0.8, Seed = 100 + i }))];
        JsonElement[] answers = await Task.WhenAll(cases.Select(item => run.Answer(
            Completions, new { prompt = item.Prompt, max_tokens = item.Options.MaxTokens, temperature = item.Options.Temperature, seed = item.Options.Seed })));
        Assert.Equal(cases.Select(item => string.Concat(run.Model.Generate(item.Prompt, item.Options))), answers.Select(answer => answer.GetProperty("choices")[0].GetProperty("text").GetString()));
    }

    [Fact]
    public async Task WithoutAPlaceARequestIsToldToComeBack()
    {
        using ServerRun run = new(new ServeOptions { Parallel = 1, Queue = (2 * Many) - 1 });
        JsonElement tooMany = await run.Error(Completions, $"{{\"prompt\":\"a\",\"n\":{(2 * Many) + 1}}}");
        Assert.Equal("n", tooMany.GetProperty("param").GetString());
        using CancellationTokenSource gone = new();
        Task first = Hold(run, gone.Token), second = Hold(run, gone.Token);
        await Until(run, health => health.GetProperty("active").GetInt32() + health.GetProperty("waiting").GetInt32() > Many + 5);
        using HttpResponseMessage refused = await run.Client.PostAsync(new Uri(Completions, UriKind.Relative), Long(stream: false));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, refused.StatusCode);
        Assert.Equal("1", refused.Headers.GetValues("Retry-After").Single());
        Assert.Contains("overloaded", await refused.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        // Clients that go away make room.
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        await Until(run, health => health.GetProperty("active").GetInt32() + health.GetProperty("waiting").GetInt32() == 0);
        Assert.Equal(HttpStatusCode.OK, (await run.Post(Completions, "{\"prompt\":\"a\",\"max_tokens\":1}")).Status);
    }

    [Fact]
    public async Task ARequestForManyAnswersHoldsUpNobody()
    {
        using ServerRun run = new(new ServeOptions { Parallel = 1 });
        Task<JsonElement> many = run.Answer(Completions, new { prompt = "def ", n = 30, max_tokens = 40, ignore_eos = true });
        await Until(run, health => health.GetProperty("waiting").GetInt32() > 20);
        _ = await run.Answer(Completions, new { prompt = "import ", max_tokens = 2 });
        Assert.False(many.IsCompleted);
        Assert.Equal(30, (await many).GetProperty("choices").GetArrayLength());
    }

    [Fact]
    public async Task AStoppedServerEndsWhatIsUnderWay()
    {
        using ServerRun run = new(new ServeOptions { Parallel = 1, Patience = TimeSpan.Zero });
        Task<string> stream = Stream(run);
        Task<(HttpStatusCode Status, JsonElement Document)> waits = run.Post(Completions, await Long(stream: false).ReadAsStringAsync());
        await Until(run, health => health.GetProperty("waiting").GetInt32() > Many + 5);
        run.Stop();
        Assert.Contains("data: {\"error\":", await stream, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, (await waits).Status);
    }

    /// <summary>A pass that fails ends the answers under way with an error, and nothing of it is kept.</summary>
    [Fact]
    public async Task AfterAFailureTheServerGoesOn()
    {
        using ServerRun run = new();
        const string body = "{\"prompt\":\"def add(a, b):\",\"max_tokens\":4,\"temperature\":0}";
        JsonElement before = (await run.Post(Completions, body)).Document;
        Tensor norm = run.Model.Model.Parameters.Select(item => item.Holder).OfType<Tensor>().Last(tensor => tensor.DType == DType.F32);
        float[] weights = norm.HostSpan<float>().ToArray();
        norm.HostSpan<float>().Fill(float.NaN);
        JsonElement error = await run.Error(Completions, body, HttpStatusCode.InternalServerError);
        Assert.Contains("not finite", error.GetProperty("message").GetString(), StringComparison.Ordinal);
        weights.CopyTo(norm.HostSpan<float>());
        JsonElement after = (await run.Post(Completions, body)).Document;
        Assert.Equal(before.GetProperty("choices").ToString(), after.GetProperty("choices").ToString());
        Assert.Equal(0, after.GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32());
    }

    /// <summary>Requests that share a pass with one that fails have the answers that they get alone.</summary>
    [Fact]
    public async Task ARequestThatFailsEndsNoOther()
    {
        using TempFolder folder = new();
        using ServerRun run = new(name: WithoutPosition(folder, 60));
        object others = new { prompt = "def ", max_tokens = 50, temperature = 0, ignore_eos = true };
        JsonElement alone = (await run.Answer(Completions, others)).GetProperty("choices");
        // In the middle of an answer, and in its prompt.
        string late = JsonSerializer.Serialize(new { prompt = Enumerable.Repeat(300, 50), max_tokens = 40, ignore_eos = true }), early = JsonSerializer.Serialize(new { prompt = Enumerable.Repeat(300, 70) });
        Task<JsonElement>[] good = [.. Enumerable.Range(0, 3).Select(_ => run.Answer(Completions, others))];
        Task<JsonElement>[] bad = [.. new[] { late, early, late }.Select(body => run.Error(Completions, body, HttpStatusCode.InternalServerError))];
        Assert.All(await Task.WhenAll(bad), error => Assert.Contains("not finite", error.GetProperty("message").GetString(), StringComparison.Ordinal));
        Assert.All(await Task.WhenAll(good), answer => Assert.Equal(alone.ToString(), answer.GetProperty("choices").ToString()));
    }

    // A GPT-2 that has no number for one position: answers that come there fail.
    private static string WithoutPosition(TempFolder folder, int position)
    {
        foreach (string file in Directory.GetFiles(Path.Combine(TestData.Assets, "nibble-gpt2-10m")))
        {
            File.Copy(file, folder[Path.GetFileName(file)]);
        }

        using FileStream weights = new(folder["model.safetensors"], FileMode.Open, FileAccess.ReadWrite);
        byte[] header = new byte[8];
        weights.ReadExactly(header);
        header = new byte[BitConverter.ToInt64(header)];
        weights.ReadExactly(header);
        using JsonDocument entries = JsonDocument.Parse(header);
        JsonElement table = entries.RootElement.GetProperty("transformer.wpe.weight");
        Assert.Equal("BF16", table.GetProperty("dtype").GetString());
        int row = 2 * table.GetProperty("shape")[1].GetInt32();
        weights.Seek(table.GetProperty("data_offsets")[0].GetInt64() + (position * row), SeekOrigin.Current);
        // The largest BF16: sums of it are infinite, and no check of the file sees that.
        weights.Write([.. Enumerable.Repeat<byte>(0x7F, row)]);
        return folder.Path;
    }

    private static async Task<string> Stream(ServerRun run)
    {
        using HttpResponseMessage response = await run.Client.PostAsync(new Uri(Completions, UriKind.Relative), Long(stream: true));
        return await response.Content.ReadAsStringAsync();
    }

    private static async Task Hold(ServerRun run, CancellationToken gone)
    {
        using HttpResponseMessage response = await run.Client.PostAsync(new Uri(Completions, UriKind.Relative), Long(stream: false), gone);
    }

    // So many answers that take longer, one after the other, than what a test does meanwhile.
    private static StringContent Long(bool stream) =>
        new(JsonSerializer.Serialize(new { prompt = "def ", n = Many, max_tokens = 500, ignore_eos = true, stream, temperature = 0.5 }), Encoding.UTF8, "application/json");

    private static async Task Until(ServerRun run, Func<JsonElement, bool> condition)
    {
        for (int i = 0; i < 600; i++)
        {
            using JsonDocument health = JsonDocument.Parse(await run.Client.GetStringAsync(new Uri("/health", UriKind.Relative)));
            if (condition(health.RootElement))
            {
                return;
            }

            await Task.Delay(20);
        }

        Assert.Fail("the server did not come to the expected state");
    }
}
