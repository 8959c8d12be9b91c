using Nibble.Data.Rows;
using Nibble.IO;
using Nibble.Templates;
using Nibble.Tokenization;

namespace Nibble.Data;

/// <summary>
/// Turns examples into tokens and says which are trained on: all of a text, what follows a prompt, what the assistant says. Texts are
/// joined by the end token and cut into full rows, so that no place is wasted; every other example gets a row.
/// </summary>
internal sealed class RowEncoder(Tokenizer tokenizer, int rowLength, ChatTemplate? template, Action<TrainingRow> emit)
{
    private readonly List<int> _stream = [];

    /// <summary>Examples that were longer than a row and were cut.</summary>
    public int Truncated { get; private set; }

    /// <summary>Adds an example; returns what is wrong with it, or null.</summary>
    /// <param name="example">The example.</param>
    /// <param name="continues">The next text goes on with this one.</param>
    /// <param name="begins">False if it goes on with the one before.</param>
    public string? Add(Example example, bool continues = false, bool begins = true)
    {
        switch (example)
        {
            case TextExample text:
                AddText(text.Text, continues, begins);
                return null;
            case CompletionExample pair:
                List<int> ids = [];
                tokenizer.Encode(pair.Prompt, ids);
                int prompt = ids.Count;
                tokenizer.Encode(pair.Completion, ids, addSpecialTokens: false);
                ids.AddRange(tokenizer.EosId is { } end ? [end] : []);
                return Emit(ids, [(prompt, ids.Count)]);
            default:
                return AddChat((ChatExample)example);
        }
    }

    /// <summary>Ends the stream of texts: what is left becomes a last, shorter row.</summary>
    public void Finish()
    {
        Cut(_stream.Count - 1);
        _stream.Clear();
    }

    private void AddText(string text, bool continues, bool begins)
    {
        tokenizer.Encode(text, _stream, addSpecialTokens: begins);
        if (!continues && tokenizer.EosId is { } end)
        {
            _stream.Add(end);
        }

        Cut((_stream.Count - 1) / rowLength * rowLength);
    }

    /// <summary>Gives out rows over the first <paramref name="tokens"/> places of the stream.</summary>
    private void Cut(int tokens)
    {
        for (int start = 0; start < tokens; start += rowLength)
        {
            int count = Math.Min(rowLength, tokens - start);
            emit(new TrainingRow([.. _stream.GetRange(start, count)], [.. _stream.GetRange(start + 1, count)]));
        }

        if (tokens > 0)
        {
            _stream.RemoveRange(0, tokens);
        }
    }

    /// <summary>
    /// What the assistant says is what the template adds after the text of everything before it and the beginning of an answer. Tokens of
    /// the two are compared from the front, so a token that reaches across belongs to the answer.
    /// </summary>
    private string? AddChat(ChatExample chat)
    {
        if (template is null)
        {
            Throw.BadInput("rows are conversations, and the model has no chat template", "their text depends on it", "name one with --chat-template FILE, or take a model that was tuned for chat");
        }

        try
        {
            string text = template.Render(chat.Messages, chat.Tools, addGenerationPrompt: false);
            List<int> ids = [.. tokenizer.Encode(text, addSpecialTokens: false)];
            List<(int From, int To)> spans = [];
            for (int i = chat.Given; i < chat.Messages.Count; i++)
            {
                if (chat.Messages[i]["role"] is "assistant" && Span(chat, i, text, ids) is { } span)
                {
                    spans.Add(span);
                }
            }

            return spans.Count == 0 ? "no answer of the assistant can be told apart in the text of the chat template" : Emit(ids, spans);
        }
        catch (NibbleException error) when (error.Kind == ErrorKind.BadInput)
        {
            return error.What;
        }
    }

    /// <summary>Tokens of message <paramref name="i"/>; null if the template writes earlier messages differently once others follow.</summary>
    private (int From, int To)? Span(ChatExample chat, int i, string text, List<int> ids)
    {
        string before = template!.Render([.. chat.Messages.Take(i)], chat.Tools, addGenerationPrompt: true);
        string after = i == chat.Messages.Count - 1 ? text : template.Render([.. chat.Messages.Take(i + 1)], chat.Tools, addGenerationPrompt: false);
        if (!text.StartsWith(before, StringComparison.Ordinal) || !text.StartsWith(after, StringComparison.Ordinal))
        {
            return null;
        }

        int from = Common(ids, tokenizer.Encode(before, addSpecialTokens: false));
        int to = after.Length == text.Length ? ids.Count : Common(ids, tokenizer.Encode(after, addSpecialTokens: false));
        return to > from ? (from, to) : null;
    }

    private static int Common(List<int> ids, int[] prefix)
    {
        int count = 0;
        while (count < ids.Count && count < prefix.Length && ids[count] == prefix[count])
        {
            count++;
        }

        return count;
    }

    private string? Emit(List<int> ids, IReadOnlyList<(int From, int To)> spans)
    {
        bool cut = ids.Count > rowLength + 1;
        int length = Math.Min(ids.Count, rowLength + 1) - 1;
        int[] targets = new int[Math.Max(length, 0)];
        Array.Fill(targets, -1);
        foreach ((int from, int to) in spans)
        {
            for (int place = Math.Max(from - 1, 0); place < Math.Min(to - 1, length); place++)
            {
                targets[place] = ids[place + 1];
            }
        }

        if (Array.TrueForAll(targets, target => target < 0))
        {
            return cut ? $"the prompt alone fills a row of {rowLength} tokens" : "nothing of it is trained on: the answer is empty";
        }

        Truncated += cut ? 1 : 0;
        emit(new TrainingRow([.. ids.Take(length)], targets));
        return null;
    }
}
