using System.Runtime.CompilerServices;
using Nibble.Tensors;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>One argument of a kernel: a number or address by value, or a structure on the caller's stack.</summary>
internal readonly unsafe struct KernelArgument
{
    private readonly ulong _bits;
    private readonly bool _isStructure;

    private KernelArgument(ulong bits, bool isStructure = false) => (_bits, _isStructure) = (bits, isStructure);

    /// <summary>A structure that lives until the launch returns.</summary>
    public static KernelArgument Structure<T>(T* value)
        where T : unmanaged => new((ulong)value, isStructure: true);

    /// <summary>The address of a tensor, or null.</summary>
    public static implicit operator KernelArgument(Tensor? tensor) => new((ulong)CudaStorage.AddressOf(tensor));

    public static implicit operator KernelArgument(nint value) => new((ulong)value);

    public static implicit operator KernelArgument(ulong value) => new(value);

    public static implicit operator KernelArgument(int value) => new((uint)value);

    public static implicit operator KernelArgument(float value) => new(BitConverter.SingleToUInt32Bits(value));

    /// <summary>Writes where each argument stands, as cuLaunchKernel wants them. The arguments must not move meanwhile.</summary>
    public static void Addresses(KernelArgument* arguments, int count, void** addresses)
    {
        for (int i = 0; i < count; i++)
        {
            addresses[i] = arguments[i]._isStructure ? (void*)arguments[i]._bits : Unsafe.AsPointer(ref Unsafe.AsRef(in arguments[i]._bits));
        }
    }
}
