using System.Diagnostics.CodeAnalysis;

namespace Nibble.IO;

/// <summary>Throw helpers: they keep hot methods small and the wording of errors in one form (what, why, remedy).</summary>
internal static class Throw
{
    [DoesNotReturn]
    public static void BadInput(string what, string? why = null, string? remedy = null, Exception? inner = null) =>
        throw new NibbleException(ErrorKind.BadInput, what, why, remedy, inner);

    [DoesNotReturn]
    public static void Usage(string what, string? why = null, string? remedy = null) =>
        throw new NibbleException(ErrorKind.Usage, what, why, remedy);

    [DoesNotReturn]
    public static void NotFound(string what, string? why = null, string? remedy = null, Exception? inner = null) =>
        throw new NibbleException(ErrorKind.NotFound, what, why, remedy, inner);

    [DoesNotReturn]
    public static void Failed(string what, string? why = null, string? remedy = null, Exception? inner = null) =>
        throw new NibbleException(ErrorKind.Failed, what, why, remedy, inner);

    [DoesNotReturn]
    public static void Resource(string what, string? why = null, string? remedy = null, Exception? inner = null) =>
        throw new NibbleException(ErrorKind.Resource, what, why, remedy, inner);

    /// <summary>A mistake of the calling code (not of the user's input): wrong shape, dtype or range given to an op.</summary>
    [DoesNotReturn]
    public static void Argument(string op, string message) => throw new ArgumentException($"{op}: {message}");
}
