using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Nibble.Certificates;
using Nibble.Data.Streaming;
using Nibble.Evaluation;
using Nibble.Evaluation.Baselines;
using Nibble.Evaluation.Tasks;
using Nibble.Quantization;
using Nibble.Runs;
using Nibble.Runs.Reports;
using Nibble.Runs.Studies;
using Nibble.Tuning;

namespace Nibble.IO;

/// <summary>
/// Writes and reads Nibble's own documents. What a type consists of is known from <see cref="DocumentTypes"/>, never by reflection: apps
/// that are trimmed or compiled ahead of time have none. A type that is not listed there fails at once, in every app.
/// </summary>
internal static class DocumentJson
{
    /// <summary>Names as they are in C#, one line.</summary>
    public static JsonSerializerOptions Plain { get; } = Known(new());

    /// <summary>The same options with the types that are known.</summary>
    public static JsonSerializerOptions Known(JsonSerializerOptions options)
    {
        options.TypeInfoResolver = DocumentTypes.Default;
        return options;
    }

    /// <summary>A document as text.</summary>
    public static string Text<T>(T document, JsonSerializerOptions options) => JsonSerializer.Serialize(document, Type<T>(options));

    /// <summary>A document as UTF-8.</summary>
    public static byte[] Bytes<T>(T document, JsonSerializerOptions options) => JsonSerializer.SerializeToUtf8Bytes(document, Type<T>(options));

    /// <summary>Reads a document.</summary>
    public static T? Read<T>(string text, JsonSerializerOptions options) => JsonSerializer.Deserialize(text, Type<T>(options));

    /// <summary>Reads a document that is a part of another.</summary>
    public static T? Read<T>(JsonElement element, JsonSerializerOptions options) => element.Deserialize(Type<T>(options));

    /// <summary>A tree of nodes as an element.</summary>
    public static JsonElement Element(JsonNode node)
    {
        using JsonDocument document = JsonDocument.Parse(node.ToJsonString());
        return document.RootElement.Clone();
    }

    /// <summary>The elements of an array, one in memory at a time.</summary>
    public static IEnumerable<JsonElement> Elements(Stream stream, int depth)
    {
        JsonSerializerOptions options = Known(new() { MaxDepth = depth });
        return JsonSerializer.DeserializeAsyncEnumerable(stream, Type<JsonElement>(options)).ToBlockingEnumerable();
    }

    private static JsonTypeInfo<T> Type<T>(JsonSerializerOptions options) => (JsonTypeInfo<T>)options.GetTypeInfo(typeof(T));
}

/// <summary>Every type of document, and those of settings, whose values are objects.</summary>
[JsonSourceGenerationOptions(GenerationMode = JsonSourceGenerationMode.Metadata)]
[JsonSerializable(typeof(ResultDocument))]
[JsonSerializable(typeof(StudyResults))]
[JsonSerializable(typeof(TrainingFacts))]
[JsonSerializable(typeof(BaselineFacts))]
[JsonSerializable(typeof(Predictions))]
[JsonSerializable(typeof(Certificate))]
[JsonSerializable(typeof(PlanDocument))]
[JsonSerializable(typeof(QuantizationRecord))]
[JsonSerializable(typeof(RunConfiguration))]
[JsonSerializable(typeof(MeasuredEnvironment))]
[JsonSerializable(typeof(ReportData))]
[JsonSerializable(typeof(CellKey))]
[JsonSerializable(typeof(StepReport))]
[JsonSerializable(typeof(EvaluationLine))]
[JsonSerializable(typeof(TrainStateDocument))]
[JsonSerializable(typeof(Dictionary<string, string>))]
[JsonSerializable(typeof(StreamPosition))]
[JsonSerializable(typeof(IReadOnlyDictionary<string, object>))]
[JsonSerializable(typeof(JsonElement))]
[JsonSerializable(typeof(bool))]
[JsonSerializable(typeof(int))]
[JsonSerializable(typeof(long))]
[JsonSerializable(typeof(float))]
[JsonSerializable(typeof(double))]
[JsonSerializable(typeof(string))]
internal sealed partial class DocumentTypes : JsonSerializerContext;
