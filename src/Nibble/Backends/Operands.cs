namespace Nibble.Backends;

/// <summary>What keeps the operands of an op while kernels work on their memory.</summary>
internal static class Operands
{
    /// <summary>
    /// Called after the work. Kernels see pointers, which keep no tensor: one whose last use is the op itself would otherwise be collected, and its
    /// memory freed, in the middle of it.
    /// </summary>
    public static void Hold(object? a, object? b = null, object? c = null, object? d = null, object? e = null, object? f = null)
    {
        GC.KeepAlive(a);
        GC.KeepAlive(b);
        GC.KeepAlive(c);
        GC.KeepAlive(d);
        GC.KeepAlive(e);
        GC.KeepAlive(f);
    }
}
