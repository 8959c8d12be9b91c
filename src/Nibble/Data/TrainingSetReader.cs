using System.Text.Json;
using Nibble.IO;
using Nibble.Tokenization;

namespace Nibble.Data;

/// <summary>
/// Turns files into rows of tokens. Texts are joined by the end token and cut into full rows, so that no place is wasted; examples
/// with a prompt get a row each, and only what follows the prompt is scored.
/// </summary>
/// <param name="tokenizer">The model's tokenizer.</param>
/// <param name="rowLength">Most tokens of a row.</param>
/// <param name="skipBad">Count unusable rows of a file instead of refusing it.</param>
public sealed class TrainingSetReader(Tokenizer tokenizer, int rowLength, bool skipBad = false)
{
    private const int MostProblemsShown = 5;
    private readonly List<int> _stream = [];
    private readonly List<TrainingRow> _rows = [];
    private readonly List<string> _problems = [];
    private int _documents, _truncated;

    /// <summary>Reads a text file, JSON lines (<c>.jsonl</c>), or a folder of such files.</summary>
    /// <exception cref="NibbleException">Nothing there, nothing usable, or bad rows: the first few with file and line.</exception>
    public static TrainingSet Read(string path, Tokenizer tokenizer, int rowLength, bool skipBad = false)
    {
        TrainingSetReader reader = new(tokenizer, rowLength, skipBad);
        foreach (string file in Files(path))
        {
            reader.Add(file);
        }

        return reader.Finish(path);
    }

    /// <summary>Adds a file.</summary>
    public void Add(string file)
    {
        if (Path.GetExtension(file).ToLowerInvariant() is ".jsonl" or ".ndjson")
        {
            AddLines(file);
        }
        else
        {
            AddText(File.ReadAllText(file));
        }
    }

    /// <summary>Adds a text; the end token follows it.</summary>
    public void AddText(string text)
    {
        _documents++;
        tokenizer.Encode(text, _stream);
        if (tokenizer.EosId is { } end)
        {
            _stream.Add(end);
        }
    }

    /// <summary>Adds an example of which only the completion is scored.</summary>
    public void AddExample(string prompt, string completion)
    {
        _documents++;
        List<int> ids = [];
        tokenizer.Encode(prompt, ids);
        int scoredFrom = ids.Count;
        tokenizer.Encode(completion, ids, addSpecialTokens: false);
        if (tokenizer.EosId is { } end)
        {
            ids.Add(end);
        }

        if (ids.Count > rowLength + 1)
        {
            _truncated++;
            ids.RemoveRange(rowLength + 1, ids.Count - rowLength - 1);
        }

        int[] targets = [.. ids.Skip(1)];
        Array.Fill(targets, -1, 0, Math.Min(Math.Max(scoredFrom - 1, 0), targets.Length));
        if (targets.Any(target => target >= 0))
        {
            _rows.Add(new TrainingRow([.. ids.SkipLast(1)], targets));
        }
        else
        {
            _problems.Add($"example {_documents}: the prompt alone fills a row of {rowLength} tokens");
        }
    }

    /// <summary>The rows of everything added.</summary>
    public TrainingSet Finish(string source)
    {
        for (int start = 0; start < _stream.Count - 1; start += rowLength)
        {
            int count = Math.Min(rowLength, _stream.Count - 1 - start);
            _rows.Add(new TrainingRow([.. _stream.GetRange(start, count)], [.. _stream.GetRange(start + 1, count)]));
        }

        if (_problems.Count > 0 && !skipBad)
        {
            string more = _problems.Count > MostProblemsShown ? $"; and {_problems.Count - MostProblemsShown:N0} more" : string.Empty;
            Throw.BadInput(
                $"{source}: {_problems.Count:N0} rows can't be used: {string.Join("; ", _problems.Take(MostProblemsShown))}{more}",
                "expected are rows with text, prompt and completion, or instruction and output",
                "correct them, or pass --skip-bad to leave them out");
        }

        if (_rows.Count == 0)
        {
            Throw.BadInput($"{source} has no tokens to train on", "it is empty, or every row was left out", "give a text file or JSON lines");
        }

        return new TrainingSet(_rows, _documents, _truncated, _problems.Count);
    }

    private static string[] Files(string path)
    {
        if (File.Exists(path))
        {
            return [path];
        }

        if (!Directory.Exists(path))
        {
            Throw.NotFound($"{path} does not exist", remedy: "check --data");
        }

        string[] files = [.. Directory.EnumerateFiles(path).Where(file => Path.GetExtension(file) is ".txt" or ".md" or ".jsonl" or ".ndjson").Order(StringComparer.Ordinal)];
        if (files.Length == 0)
        {
            Throw.NotFound($"{path} has no file to train on", "looked for .txt, .md, .jsonl, .ndjson", "check --data");
        }

        return files;
    }

    private void AddLines(string file)
    {
        int number = 0;
        foreach (string line in File.ReadLines(file))
        {
            number++;
            if (!string.IsNullOrWhiteSpace(line) && AddJson(line) is { } problem)
            {
                _problems.Add($"{Path.GetFileName(file)} line {number}: {problem}");
            }
        }
    }

    private string? AddJson(string line)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(line);
            JsonElement row = document.RootElement;
            if (row.ValueKind != JsonValueKind.Object)
            {
                return $"a JSON {row.ValueKind}, not an object";
            }

            switch (Text(row, "text"), Text(row, "prompt"), Text(row, "completion") ?? Text(row, "response"), Text(row, "instruction"), Text(row, "output"))
            {
                case ({ } text, _, _, _, _):
                    AddText(text);
                    return null;
                case (_, { } prompt, { } completion, _, _):
                    AddExample(prompt, completion);
                    return null;
                case (_, _, _, { } instruction, { } output):
                    AddExample(Alpaca(instruction, Text(row, "input")), output);
                    return null;
                default:
                    return "no text, no prompt with completion, no instruction with output";
            }
        }
        catch (JsonException error)
        {
            return "not JSON: " + error.Message;
        }
    }

    /// <summary>The prompt of Stanford Alpaca's training code.</summary>
    private static string Alpaca(string instruction, string? input) => string.IsNullOrEmpty(input)
        ? "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
            + $"### Instruction:\n{instruction}\n\n### Response:\n"
        : "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n"
            + $"### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n";

    private static string? Text(JsonElement row, string name) =>
        row.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
}
