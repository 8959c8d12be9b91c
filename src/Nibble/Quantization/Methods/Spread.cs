using Nibble.Backends.Cpu;

namespace Nibble.Quantization.Methods;

/// <summary>Spreads independent work over the CPU backend's threads. Parts write to places of their own, so results do not depend on them.</summary>
internal static class Spread
{
    // A part of about this many elements takes tens of microseconds: long beside the hand-over, short beside a tensor.
    private const nint PartElements = 1 << 16;

    /// <summary>Calls <paramref name="body"/> with ranges [first, last) that cover 0 … <paramref name="count"/>.</summary>
    /// <param name="count">Rows, blocks or groups.</param>
    /// <param name="elements">Elements of one of them.</param>
    /// <param name="body">The work.</param>
    public static void Over(nint count, nint elements, Action<nint, nint> body)
    {
        nint each = nint.Max(1, PartElements / nint.Max(1, elements));
        int parts = (int)nint.Min((count + each - 1) / each, 1 << 12);
        if (parts <= 1)
        {
            body(0, count);
            return;
        }

        CpuThreads.Shared(CpuThreads.Choose(null)).Run(parts, new Job(body, count, parts));
    }

    private readonly struct Job(Action<nint, nint> body, nint count, int parts) : ICpuJob
    {
        public void Execute(int part) => body(count * part / parts, count * (part + 1) / parts);
    }
}
