using System.Reflection;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>The sources of the kernels, which are embedded in the assembly.</summary>
internal static class CudaSources
{
    private const string Prefix = "Nibble.Backends.Cuda.Kernels.";

    /// <summary>Headers by the name under which they are included.</summary>
    public static IReadOnlyDictionary<string, string> Headers { get; } =
        Assembly.GetExecutingAssembly().GetManifestResourceNames().Where(name => name.StartsWith(Prefix, StringComparison.Ordinal) && name.EndsWith(".cuh", StringComparison.Ordinal))
            .Select(name => name[Prefix.Length..]).Order(StringComparer.Ordinal).ToDictionary(name => name, Read);

    /// <summary>A source, without its headers.</summary>
    public static string Source(string name) => Read(name + ".cu");

    private static string Read(string file)
    {
        using Stream stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(Prefix + file)
            ?? throw new InvalidOperationException($"{file} is not embedded in the assembly");
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    }
}
