using Nibble.Certificates;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>What a conversion wrote.</summary>
/// <param name="Output">The file or folder.</param>
/// <param name="Type">Element type of the matrices.</param>
/// <param name="Bytes">Bytes of all files.</param>
/// <param name="Notes">What is not as asked for, with the reason.</param>
/// <param name="Certificate">How far the result's logits are from the source's.</param>
public sealed record ConversionReport(string Output, string Type, long Bytes, IReadOnlyList<string> Notes, Certificate Certificate);

/// <summary>Turns model folders into GGUF files, and GGUF files (or quantized folders) into dense folders.</summary>
public static class ModelConverter
{
    /// <summary>Element types of GGUF files that can be written, as on the command line.</summary>
    public static IReadOnlyList<string> GgufNames { get; } = [.. GgufCodec.Written.Select(type => type.ToString().ToLowerInvariant())];

    /// <summary>Converts; a target that ends in <c>.gguf</c> is a file, any other a folder.</summary>
    /// <param name="input">A model folder or GGUF file.</param>
    /// <param name="output">The target; it must not exist unless <paramref name="force"/>.</param>
    /// <param name="type">Element type of the matrices: any of <see cref="GgufNames"/> for a file; f32, f16 or bf16 for a folder. Null: f16 for a file, f32 for a folder.</param>
    /// <param name="force">Replaces an existing target.</param>
    /// <param name="cancellation">Stops between two tensors.</param>
    public static ConversionReport Convert(string input, string output, string? type = null, bool force = false, CancellationToken cancellation = default)
    {
        bool file = GgufFile.Names(output);
        string[] known = file ? [.. GgufNames] : ["f32", "f16", "bf16"];
        string name = (type ?? (file ? "f16" : "f32")).ToLowerInvariant();
        if (!known.Contains(name))
        {
            Throw.Usage($"{output}: type '{type}' cannot be written", $"{(file ? "GGUF files" : "folders")} take {string.Join(", ", known)}", file ? null : "name the output NAME.gguf to write a GGUF file");
        }

        Check(input, output, file, force);
        using ConvertSource source = ConvertSource.Open(input);
        IReadOnlyList<string> notes = file
            ? WriteFile(source, output, Enum.Parse<GgufType>(name, ignoreCase: true), cancellation)
            : WriteFolder(source, output, Enum.Parse<DType>(name, ignoreCase: true), force, cancellation);
        long bytes = file ? new FileInfo(output).Length : new DirectoryInfo(output).EnumerateFiles().Sum(part => part.Length);
        return new ConversionReport(output, name, bytes, [.. source.Notes, .. notes], Certificate.Read(output));
    }

    /// <summary>The file gets its name when its certificate is there: until then a file of that name stays what it was, with a certificate of its own.</summary>
    private static IReadOnlyList<string> WriteFile(ConvertSource source, string output, GgufType type, CancellationToken cancellation)
    {
        using OutputFolder aside = OutputFolder.Create(output + ".new", force: true);
        string written = aside.File(Path.GetFileName(output));
        IReadOnlyList<string> notes = GgufExport.Write(source, written, type, cancellation);
        Certificate certificate = Certifier.Make(source.Path, written);
        // A kill between these leaves no certificate, and never one of another file.
        File.Delete(Certificate.PathOf(output));
        File.Move(written, output, overwrite: true);
        certificate.Write(output);
        return notes;
    }

    private static void Check(string input, string output, bool file, bool force)
    {
        if (Path.GetFullPath(input) == Path.GetFullPath(output))
        {
            Throw.Usage($"{output} is the input itself", "it is read while the output is written", "choose another output");
        }

        if (!file)
        {
            OutputFolder.Check(output, force);
        }
        else if (Directory.Exists(output))
        {
            Throw.Usage($"cannot write {output}", "it is a folder", "name a file");
        }
        else if (File.Exists(output) && !force)
        {
            Throw.Usage($"{output} exists already", remedy: "choose another output, or replace it with --force");
        }
        else if (Path.GetDirectoryName(Path.GetFullPath(output)) is { } folder && !Directory.Exists(folder))
        {
            Throw.NotFound($"cannot write {output}", $"the folder {folder} does not exist", "create the folder first");
        }
    }

    private static IReadOnlyList<string> WriteFolder(ConvertSource source, string output, DType dtype, bool force, CancellationToken cancellation)
    {
        using OutputFolder folder = OutputFolder.Create(output, force);
        Dictionary<string, LinearSpec> linears = source.Linears.ToDictionary(spec => spec.WeightName);
        IEnumerable<SafetensorsSpec> specs = source.Linears.Select(spec => new SafetensorsSpec(spec.WeightName, dtype, spec.StoredShape))
            .Concat(source.Vectors.Select(spec => new SafetensorsSpec(spec.Name, dtype, spec.Shape)));
        using (HfFolderWriter writer = new(folder.Path, specs))
        {
            foreach (string name in writer.Order)
            {
                cancellation.ThrowIfCancellationRequested();
                using Tensor tensor = linears.TryGetValue(name, out LinearSpec? spec) ? Stored(source, spec) : source.Tensor(name);
                using Tensor converted = tensor.To(dtype);
                FiniteCheck.Require(converted, name, output);
                writer.Append(name, converted);
            }

            writer.Commit();
        }

        AtomicFile.WriteAllBytes(folder.File("config.json"), source.ConfigJson(dtype));
        foreach ((string name, byte[] content) in source.TokenizerFiles())
        {
            AtomicFile.WriteAllBytes(folder.File(name), content);
        }

        Certifier.Make(source.Path, folder.Path).Write(folder.Path);
        folder.Commit();
        return [];
    }

    private static Tensor Stored(ConvertSource source, LinearSpec spec)
    {
        Tensor matrix = source.Matrix(spec);
        if (!spec.StoredTransposed)
        {
            return matrix;
        }

        using (matrix)
        {
            return Transpose.Of(matrix);
        }
    }
}
