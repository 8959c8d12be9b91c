using System.Runtime.InteropServices;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>Strings as UTF-8 behind a table of pointers, as C takes them.</summary>
internal sealed unsafe class NativeStrings : IDisposable
{
    public NativeStrings(IEnumerable<string> texts)
    {
        nint[] strings = [.. texts.Select(Marshal.StringToCoTaskMemUTF8)];
        Count = strings.Length;
        Pointers = (byte**)NativeMemory.Alloc((nuint)Math.Max(1, Count), (nuint)sizeof(nint));
        for (int i = 0; i < Count; i++)
        {
            Pointers[i] = (byte*)strings[i];
        }
    }

    public int Count { get; }

    public byte** Pointers { get; private set; }

    public void Dispose()
    {
        for (int i = 0; Pointers is not null && i < Count; i++)
        {
            Marshal.FreeCoTaskMem((nint)Pointers[i]);
        }

        NativeMemory.Free(Pointers);
        Pointers = null;
    }
}
