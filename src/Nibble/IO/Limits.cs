namespace Nibble.IO;

/// <summary>Every ceiling for untrusted input, in one record. A file that passes a ceiling is refused before memory is taken.</summary>
public sealed record Limits
{
    /// <summary>The ceilings used where the caller names none.</summary>
    public static Limits Default { get; } = new();

    /// <summary>Longest safetensors header in bytes (the reference's own limit).</summary>
    public long SafetensorsHeaderBytes { get; init; } = 100_000_000;

    /// <summary>Longest JSON document (config, index, tokenizer) in bytes.</summary>
    public long JsonBytes { get; init; } = 200_000_000;

    /// <summary>Deepest nesting of a JSON document.</summary>
    public int JsonDepth { get; init; } = 64;

    /// <summary>Most tensors in one checkpoint.</summary>
    public int Tensors { get; init; } = 1_000_000;

    /// <summary>Most entries of a vocabulary, merges and added tokens counted apart.</summary>
    public int VocabularyEntries { get; init; } = 4_000_000;

    /// <summary>Most bytes of one text file that is tokenized as a whole.</summary>
    public long TextBytes { get; init; } = 4L << 30;

    /// <summary>Largest width (hidden size, MLP size, vocabulary) that a config may state.</summary>
    public int ModelWidth { get; init; } = 1 << 24;

    /// <summary>Most layers that a config may state.</summary>
    public int ModelLayers { get; init; } = 4096;

    /// <summary>Most characters of a chat template.</summary>
    public int TemplateCharacters { get; init; } = 1 << 20;

    /// <summary>Most steps that the rendering of a template takes.</summary>
    public long TemplateSteps { get; init; } = 10_000_000;

    /// <summary>Most characters that a template writes.</summary>
    public int TemplateOutput { get; init; } = 16 << 20;

    /// <summary>Most bytes of one row of data (a JSON line, a field of a table).</summary>
    public long RowBytes { get; init; } = 64L << 20;

    /// <summary>Most bytes of the footer of a Parquet file.</summary>
    public int ParquetFooterBytes { get; init; } = 64 << 20;

    /// <summary>Most bytes of a page of a Parquet file, packed or not.</summary>
    public int ParquetPageBytes { get; init; } = 512 << 20;

    /// <summary>Most values of a page of a Parquet file.</summary>
    public int ParquetPageValues { get; init; } = 16 << 20;
}
