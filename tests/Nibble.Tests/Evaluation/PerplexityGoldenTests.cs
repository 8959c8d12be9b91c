using System.Text.Json;
using Nibble.Evaluation;
using Nibble.Evaluation.Protocols;
using Nibble.Evaluation.Texts;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Tests.Evaluation;

/// <summary>Perplexities of the embedded models against transformers' (Goldens/embedded), and what must not change them.</summary>
public class PerplexityGoldenTests
{
    private static LoadedModel Load(string name) => LoadedModel.Load(AssetFolder.Find($"assets/{name}"), new LoadOptions { Dtype = DType.F32 });

    private static (double Nll, int Scored) Measure(LoadedModel model, Protocol protocol, int limit)
    {
        TokenizedText text = TokenizedText.Create(TextSource.Load("demo"), protocol, TextJoin.Raw, model.Tokenizer, limit);
        float[] losses = new LikelihoodScorer(model.Model).Score(text, protocol);
        return (losses.Sum(loss => (double)loss), losses.Length);
    }

    [Fact]
    public void Llama_over_20000_tokens()
    {
        using JsonDocument golden = JsonDocument.Parse(TestData.Golden("embedded", "nibble-llama-4m.json"));
        using LoadedModel model = Load("nibble-llama-4m");
        foreach (JsonElement entry in golden.RootElement.GetProperty("perplexity").EnumerateArray().Where(entry => entry.GetProperty("limit_tokens").GetInt32() == 20_000))
        {
            Protocol protocol = entry.GetProperty("protocol").GetString()!.StartsWith("window", StringComparison.Ordinal) ? new WindowProtocol(512, 256) : new BlocksProtocol(512);
            (double nll, int scored) = Measure(model, protocol, 20_000);
            Assert.Equal(entry.GetProperty("scored_tokens").GetInt32(), scored);
            Assert.Equal(entry.GetProperty("nll").GetDouble(), nll / scored, 1e-5);
        }
    }

    [Fact]
    public void Windows_that_share_a_pass_give_what_they_give_alone()
    {
        using LoadedModel model = Load("nibble-llama-4m");
        LikelihoodScorer scorer = new(model.Model);
        Protocol together = new WindowProtocol(64, 32), alone = new WindowProtocol(64, 32);
        TokenizedText text = TokenizedText.Create(TextSource.Load("demo"), together, TextJoin.Raw, model.Tokenizer, 400);
        float[] batched = scorer.Score(text, together);
        Assert.Equal(8, scorer.LargestBatch);
        float[] single = new LikelihoodScorer(model.Model) { TokensPerPass = 64 }.Score(text, alone);
        Assert.Equal(batched.Length, single.Length);
        for (int i = 0; i < batched.Length; i++)
        {
            Assert.Equal(single[i], batched[i], 1e-4);
        }
    }

    [Fact]
    public void A_text_that_is_too_short_says_so()
    {
        using LoadedModel model = Load("nibble-llama-4m");
        NibbleException error = Assert.Throws<NibbleException>(() => Measure(model, new BlocksProtocol(512), 100));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("too short", error.Message, StringComparison.Ordinal);
    }
}
