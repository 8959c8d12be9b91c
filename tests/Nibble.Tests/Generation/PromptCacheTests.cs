using Nibble.Generation;
using Nibble.Models;
using Nibble.Templates;
using Nibble.Tests.Models;

namespace Nibble.Tests.Generation;

/// <summary>A conversation that keeps its keys and values answers as one that runs everything anew.</summary>
public class PromptCacheTests
{
    /// <summary>Every type of model, with turns that go on, that go back, and that are another conversation.</summary>
    [Theory]
    [MemberData(nameof(GoldenModel.Names), MemberType = typeof(GoldenModel))]
    public void AnswersEqualThoseWithoutACache(string name)
    {
        using GoldenModel golden = new(name);
        CausalModel model = golden.Model;
        if (model.Facts.Labels > 0)
        {
            return;
        }

        int most = Math.Min(24, model.Facts.Context - 4);
        int[] Tokens(int seed, int count) => [.. Enumerable.Range(0, count).Select(i => (int)(((seed * 31L) + (i * 7919L)) % model.Facts.Vocabulary))];
        using PromptCache past = new(model);
        List<int> conversation = [.. Tokens(1, 5)];
        for (int turn = 0; conversation.Count < most; turn++)
        {
            int[] prompt = [.. conversation];
            Assert.Equal(Answer(model, prompt, null), Answer(model, prompt, past));
            // All of the turn before ran already, but for the answer's last token.
            Assert.Equal(turn == 0 ? 0 : conversation.Count - 4, past.Kept);
            conversation.AddRange(Answer(model, prompt, null));
            conversation.AddRange(Tokens(turn + 2, 3));
        }

        foreach (int[] prompt in new int[][] { [.. conversation.Take(7)], [.. conversation.Take(4), .. Tokens(9, 4)], Tokens(5, 6) })
        {
            Assert.Equal(Answer(model, prompt, null), Answer(model, prompt, past));
        }
    }

    [Theory]
    [InlineData("nibble-gpt2-10m")]
    [InlineData("nibble-llama-4m")]
    public void AChatRunsOnlyWhatIsNew(string name)
    {
        using LoadedModel loaded = LoadedModel.Load(Path.Combine(TestData.Assets, name));
        ChatTemplate template = ChatTemplate.FromText("{% for m in messages %}# {{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}# assistant:{% endif %}");
        GenerationOptions options = new() { MaxTokens = 8, Temperature = 0.8, Seed = 3 };
        using ChatSession kept = new(loaded, template);
        string[] questions = ["def add(a, b):", "import os", "class Stack:"];
        foreach (string question in questions)
        {
            int before = kept.Tokens;
            string answer = string.Concat(kept.Answer(question, options));
            using ChatSession whole = new(loaded, template);
            Assert.Equal(answer, string.Concat(Replay(whole, kept, question, options)));
            Assert.True(before == 0 || kept.KeptTokens > before / 2, $"{kept.KeptTokens} of {before} tokens were kept");
        }
    }

    /// <summary>The last answer of a conversation, from a session that has run nothing before.</summary>
    private static IEnumerable<string> Replay(ChatSession session, ChatSession original, string question, GenerationOptions options)
    {
        session.Load(original.Messages.SkipLast(2));
        return session.Answer(question, options);
    }

    private static int[] Answer(CausalModel model, int[] prompt, PromptCache? past)
    {
        using Generator generator = new(model, null, [], [prompt], new GenerationOptions { MaxTokens = 4 }, past);
        foreach (GenerationStep step in generator.Run())
        {
            Assert.Equal(0, step.Row);
        }

        return [.. generator.Results[0].Tokens];
    }
}
