using System.Runtime.CompilerServices;
using Nibble.Backends.Cpu.Kernels;

namespace Nibble.Backends.Cpu.Packings;

/// <summary>One <see cref="PanelForm"/> as a type, so that the compiler makes a loop for it.</summary>
internal unsafe interface IPanelForm
{
    /// <summary>What a code stands for, before the scale.</summary>
    static abstract V Code<S, V>(V bits, uint mask, float* levels)
        where S : struct, ILanes<V>
        where V : unmanaged;

    /// <summary>Scale and offset applied, each operation rounded as <c>QuantizedWeight.DequantizeRow</c> does: no fused product.</summary>
    static abstract V Apply<S, V>(V code, V scale, V offset)
        where S : struct, ILanes<V>
        where V : unmanaged;
}

/// <summary>The bits of a code as a type.</summary>
internal interface IPanelBits
{
    static abstract int Bits { get; }
}

internal readonly struct Bits2 : IPanelBits
{
    public static int Bits => 2;
}

internal readonly struct Bits4 : IPanelBits
{
    public static int Bits => 4;
}

internal readonly struct Bits8 : IPanelBits
{
    public static int Bits => 8;
}

/// <inheritdoc cref="PanelForm.Raw"/>
internal readonly unsafe struct RawForm : IPanelForm
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Code<S, V>(V bits, uint mask, float* levels)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Field(bits, mask);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V code, V scale, V offset)
        where S : struct, ILanes<V>
        where V : unmanaged => code;
}

/// <inheritdoc cref="PanelForm.ZeroPoint"/>
internal readonly unsafe struct ZeroPointForm : IPanelForm
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Code<S, V>(V bits, uint mask, float* levels)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Field(bits, mask);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V code, V scale, V offset)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Multiply(S.Subtract(code, offset), scale);
}

/// <inheritdoc cref="PanelForm.Bias"/>
internal readonly unsafe struct BiasForm : IPanelForm
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Code<S, V>(V bits, uint mask, float* levels)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Field(bits, mask);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V code, V scale, V offset)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Add(S.Multiply(code, scale), offset);
}

/// <inheritdoc cref="PanelForm.Level"/>
internal readonly unsafe struct LevelForm : IPanelForm
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Code<S, V>(V bits, uint mask, float* levels)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Lookup(bits, levels);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V code, V scale, V offset)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Multiply(code, scale);
}

/// <inheritdoc cref="PanelForm.RawLevel"/>
internal readonly unsafe struct RawLevelForm : IPanelForm
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Code<S, V>(V bits, uint mask, float* levels)
        where S : struct, ILanes<V>
        where V : unmanaged => S.Lookup(bits, levels);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Apply<S, V>(V code, V scale, V offset)
        where S : struct, ILanes<V>
        where V : unmanaged => code;
}
