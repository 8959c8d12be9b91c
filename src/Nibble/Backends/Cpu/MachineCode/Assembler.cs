using System.Buffers.Binary;

namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>
/// Writes the few x86-64 instructions that kernels need and that .NET 10 can't express. Methods have the names of the instructions,
/// operands stand in Intel's order; tests compare every encoding with what GNU as makes of it. (Intel SDM, volume 2, chapter 2.)
/// </summary>
internal sealed class Assembler
{
    private const int Unbound = -1;

    private readonly List<byte> _code = [];
    private readonly List<int> _labels = [];
    private readonly List<(int At, Label Target)> _jumps = [];

    /// <summary>The map of instructions that an opcode belongs to.</summary>
    private enum Map
    {
        F0 = 1,
        F38 = 2,
        F3A = 3,
    }

    /// <summary>The prefix that is part of an opcode, as VEX and EVEX encode it.</summary>
    private enum Prefix
    {
        None,
        P66,
        F3,
        F2,
    }

    /// <summary>Bytes so far: where the next instruction will stand.</summary>
    public int Length => _code.Count;

    /// <summary>The finished code.</summary>
    public byte[] ToCode()
    {
        byte[] code = [.. _code];
        foreach ((int at, Label target) in _jumps)
        {
            int to = _labels[target.Number];
            if (to == Unbound)
            {
                throw new InvalidOperationException($"the jump at byte {at} goes to a label that was never bound");
            }

            BinaryPrimitives.WriteInt32LittleEndian(code.AsSpan(at), to - at - sizeof(int));
        }

        return code;
    }

    /// <summary>Fills up to a multiple of 64 bytes, where the next function or loop may start.</summary>
    public void Align()
    {
        while (_code.Count % 64 != 0)
        {
            _code.Add(0x90);
        }
    }

    public Label NewLabel()
    {
        _labels.Add(Unbound);
        return new Label(_labels.Count - 1);
    }

    /// <summary>A label here.</summary>
    public Label Here()
    {
        Label label = NewLabel();
        Bind(label);
        return label;
    }

    public void Bind(Label label) => _labels[label.Number] = _code.Count;

    public void Mov(Gpr to, Gpr from) => Wide(0x8b, (int)to, from);

    public void Mov(Gpr to, Address from) => Wide(0x8b, (int)to, from);

    public void Mov(Address to, Gpr from) => Wide(0x89, (int)from, to);

    public void Mov(Gpr to, int value) => WideImmediate(0xc7, 0, to, value);

    public void Lea(Gpr to, Address address) => Wide(0x8d, (int)to, address);

    public void Add(Gpr to, Gpr value) => Wide(0x03, (int)to, value);

    public void Add(Gpr to, Address value) => Wide(0x03, (int)to, value);

    public void Add(Gpr to, int value) => WideImmediate(0x81, 0, to, value);

    public void Sub(Gpr from, int value) => WideImmediate(0x81, 5, from, value);

    public void Cmp(Gpr a, int value) => WideImmediate(0x81, 7, a, value);

    public void Jmp(Label target)
    {
        _code.Add(0xe9);
        Jump(target);
    }

    public void Jcc(Condition condition, Label target)
    {
        _code.Add(0x0f);
        _code.Add((byte)(0x80 + (int)condition));
        Jump(target);
    }

    /// <summary>Asks for a line of memory.</summary>
    public void Prefetcht0(Address address)
    {
        // A prefix that may be empty: one rule for all registers.
        _code.Add((byte)(0x40 | ((int)(address.Index ?? 0) >> 3 << 1) | ((int)address.Base >> 3)));
        _code.AddRange((ReadOnlySpan<byte>)[0x0f, 0x18]);
        Memory(1, address);
    }

    public void Ret() => _code.Add(0xc3);

    /// <summary>eax = the low half of the extended control register that ecx names.</summary>
    public void Xgetbv() => _code.AddRange((ReadOnlySpan<byte>)[0x0f, 0x01, 0xd0]);

    public void Vzeroupper() => _code.AddRange((ReadOnlySpan<byte>)[0xc5, 0xf8, 0x77]);

    public void Vmovups(Zmm to, Address from) => Evex(Map.F0, Prefix.None, 0x10, to.Number, 0, from);

    public void Vmovups(Address to, Zmm from) => Evex(Map.F0, Prefix.None, 0x11, from.Number, 0, to);

    public void Vpxord(Zmm to, Zmm a, Zmm b) => Evex(Map.F0, Prefix.P66, 0xef, to, a, b);

    public void Vpsubd(Zmm to, Zmm a, Zmm b) => Evex(Map.F0, Prefix.P66, 0xfa, to, a, b);

    public void Vpslld(Zmm to, Zmm a, int count)
    {
        Evex(Map.F0, Prefix.P66, 0x72, new Zmm(6), to, a);
        _code.Add((byte)count);
    }

    /// <summary>to = a shifted right, zeros coming in.</summary>
    public void Vpsrld(Zmm to, Zmm a, int count)
    {
        Evex(Map.F0, Prefix.P66, 0x72, new Zmm(2), to, a);
        _code.Add((byte)count);
    }

    /// <summary>to = a shifted right, the sign coming in.</summary>
    public void Vpsrad(Zmm to, Zmm a, int count)
    {
        Evex(Map.F0, Prefix.P66, 0x72, new Zmm(4), to, a);
        _code.Add((byte)count);
    }

    public void Vpandd(Zmm to, Zmm a, Zmm b) => Evex(Map.F0, Prefix.P66, 0xdb, to, a, b);

    /// <summary>to = not a, and b.</summary>
    public void Vpandnd(Zmm to, Zmm a, Zmm b) => Evex(Map.F0, Prefix.P66, 0xdf, to, a, b);

    /// <summary>Each bit of to = that bit of the table which the bits of to, a and b (the lowest) name.</summary>
    public void Vpternlogd(Zmm to, Zmm a, Zmm b, byte table)
    {
        Evex(Map.F3A, Prefix.P66, 0x25, to, a, b);
        _code.Add(table);
    }

    /// <summary>to = the floats of a and b (16 and up) that the numbers in to name.</summary>
    public void Vpermi2ps(Zmm to, Zmm a, Zmm b) => Evex(Map.F38, Prefix.P66, 0x77, to, a, b);

    /// <summary>to = the byte of a that the low four bits of each byte of b name, within 16 bytes.</summary>
    public void Vpshufb(Zmm to, Zmm a, Zmm b) => Evex(Map.F38, Prefix.P66, 0x00, to, a, b);

    /// <summary>to = 16 bytes, four times.</summary>
    public void Vbroadcasti32x4(Zmm to, Address from) => Evex(Map.F38, Prefix.P66, 0x5a, to.Number, 0, from);

    public void Vpaddd(Zmm to, Zmm a, Zmm b) => Evex(Map.F0, Prefix.P66, 0xfe, to, a, b);

    public void Vpaddd(Zmm to, Zmm a, Address b) => Evex(Map.F0, Prefix.P66, 0xfe, to.Number, a.Number, b);

    /// <summary>to = a · the 32-bit number at b.</summary>
    public void VpmulldBroadcast(Zmm to, Zmm a, Address b) => Evex(Map.F38, Prefix.P66, 0x40, to.Number, a.Number, b, isBroadcast: true);

    public void Vpbroadcastd(Zmm to, Address from) => Evex(Map.F38, Prefix.P66, 0x58, to.Number, 0, from);

    /// <summary>to += Σ of four products of unsigned bytes of a and signed ones of b, per 32 bits.</summary>
    public void Vpdpbusd(Zmm to, Zmm a, Zmm b) => Evex(Map.F38, Prefix.P66, 0x50, to, a, b);

    public void VpdpbusdBroadcast(Zmm to, Zmm a, Address b) => Evex(Map.F38, Prefix.P66, 0x50, to.Number, a.Number, b, isBroadcast: true);

    /// <summary>to += Σ of two products of signed 16-bit numbers, per 32 bits.</summary>
    public void Vpdpwssd(Zmm to, Zmm a, Zmm b) => Evex(Map.F38, Prefix.P66, 0x52, to, a, b);

    public void VpdpwssdBroadcast(Zmm to, Zmm a, Address b) => Evex(Map.F38, Prefix.P66, 0x52, to.Number, a.Number, b, isBroadcast: true);

    /// <summary>to += the product of the BF16 numbers in the high halves of a and of the 32 bits at b, then that of those in the low halves, each rounded once.</summary>
    public void Vdpbf16psBroadcast(Zmm to, Zmm a, Address b) => Evex(Map.F38, Prefix.F3, 0x52, to.Number, a.Number, b, isBroadcast: true);

    public void Vcvtdq2ps(Zmm to, Zmm from) => Evex(Map.F0, Prefix.None, 0x5b, to, new Zmm(0), from);

    public void Vcvtdq2ps(Zmm to, Address from) => Evex(Map.F0, Prefix.None, 0x5b, to.Number, 0, from);

    public void Vcvtdq2psBroadcast(Zmm to, Address from) => Evex(Map.F0, Prefix.None, 0x5b, to.Number, 0, from, isBroadcast: true);

    /// <summary>to = 16 halves as floats.</summary>
    public void Vcvtph2ps(Zmm to, Address from) => Evex(Map.F38, Prefix.P66, 0x13, to.Number, 0, from);

    /// <summary>to = 16 unsigned 16-bit numbers as 32-bit ones.</summary>
    public void Vpmovzxwd(Zmm to, Address from) => Evex(Map.F38, Prefix.P66, 0x33, to.Number, 0, from);

    /// <summary>to = 16 unsigned bytes as 32-bit numbers.</summary>
    public void Vpmovzxbd(Zmm to, Address from) => Evex(Map.F38, Prefix.P66, 0x31, to.Number, 0, from);

    /// <summary>to = the nearest whole numbers.</summary>
    public void Vcvtps2dq(Zmm to, Zmm from) => Evex(Map.F0, Prefix.P66, 0x5b, to, new Zmm(0), from);

    public void Vaddps(Zmm to, Zmm a, Zmm b) => Evex(Map.F0, Prefix.None, 0x58, to, a, b);

    public void Vaddps(Zmm to, Zmm a, Address b) => Evex(Map.F0, Prefix.None, 0x58, to.Number, a.Number, b);

    public void Vsubps(Zmm to, Zmm a, Zmm b) => Evex(Map.F0, Prefix.None, 0x5c, to, a, b);

    public void Vmulps(Zmm to, Zmm a, Zmm b) => Evex(Map.F0, Prefix.None, 0x59, to, a, b);

    public void VmulpsBroadcast(Zmm to, Zmm a, Address b) => Evex(Map.F0, Prefix.None, 0x59, to.Number, a.Number, b, isBroadcast: true);

    /// <summary>to += a · b, rounded once.</summary>
    public void Vfmadd231ps(Zmm to, Zmm a, Zmm b) => Evex(Map.F38, Prefix.P66, 0xb8, to, a, b);

    public void Vfmadd231psBroadcast(Zmm to, Zmm a, Address b) => Evex(Map.F38, Prefix.P66, 0xb8, to.Number, a.Number, b, isBroadcast: true);

    /// <summary>to = to · a + b, rounded once.</summary>
    public void Vfmadd213ps(Zmm to, Zmm a, Address b) => Evex(Map.F38, Prefix.P66, 0xa8, to.Number, a.Number, b);

    public void Ldtilecfg(Address from) => Vex(Prefix.None, 0x49, 0, 0, from);

    public void Tilerelease() => Vex(Prefix.None, 0x49, 0, 0, 0);

    public void Tilezero(Tmm to) => Vex(Prefix.F2, 0x49, to.Number, 0, 0);

    /// <summary>Rows of a tile from base on, index bytes apart.</summary>
    public void Tileloadd(Tmm to, Address from) => Vex(Prefix.F2, 0x4b, to.Number, 0, Sibmem(from));

    public void Tilestored(Address to, Tmm from) => Vex(Prefix.F3, 0x4b, from.Number, 0, Sibmem(to));

    /// <summary>to += a · b, signed bytes of a, signed ones of b.</summary>
    public void Tdpbssd(Tmm to, Tmm a, Tmm b) => Vex(Prefix.F2, 0x5e, to.Number, b.Number, a.Number);

    /// <summary>to += a · b, signed bytes of a, unsigned ones of b.</summary>
    public void Tdpbsud(Tmm to, Tmm a, Tmm b) => Vex(Prefix.F3, 0x5e, to.Number, b.Number, a.Number);

    /// <summary>to += a · b, BF16 numbers, sums in F32.</summary>
    public void Tdpbf16ps(Tmm to, Tmm a, Tmm b) => Vex(Prefix.F3, 0x5c, to.Number, b.Number, a.Number);

    private static Address Sibmem(Address address) =>
        address.Index is not null ? address : throw new ArgumentException("a tile needs an index register with the bytes between its rows");

    private void Jump(Label target)
    {
        _jumps.Add((_code.Count, target));
        Immediate(0);
    }

    private void Immediate(int value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        _code.AddRange(bytes);
    }

    private void Wide(byte opcode, int register, Gpr other)
    {
        _code.Add((byte)(0x48 | (register >> 3 << 2) | ((int)other >> 3)));
        _code.Add(opcode);
        Direct(register, (int)other);
    }

    private void Wide(byte opcode, int register, Address address)
    {
        _code.Add((byte)(0x48 | (register >> 3 << 2) | ((int)(address.Index ?? 0) >> 3 << 1) | ((int)address.Base >> 3)));
        _code.Add(opcode);
        Memory(register, address);
    }

    private void WideImmediate(byte opcode, int operation, Gpr register, int value)
    {
        Wide(opcode, operation, register);
        Immediate(value);
    }

    private void Evex(Map map, Prefix prefix, byte opcode, Zmm register, Zmm second, Zmm third)
    {
        EvexPrefix(map, prefix, register.Number, second.Number, third.Number >> 3 & 1, third.Number >> 4, isBroadcast: false);
        _code.Add(opcode);
        Direct(register.Number, third.Number);
    }

    private void Evex(Map map, Prefix prefix, byte opcode, int register, int second, Address address, bool isBroadcast = false)
    {
        EvexPrefix(map, prefix, register, second, (int)address.Base >> 3, (int)(address.Index ?? 0) >> 3, isBroadcast);
        _code.Add(opcode);
        Memory(register, address);
    }

    // 62, then R X B R' 0 mmm (R to R' inverted), W vvvv 1 pp (vvvv inverted), z L'L b V' aaa (V' inverted, L'L = 2: 512 bits).
    private void EvexPrefix(Map map, Prefix prefix, int register, int second, int b, int x, bool isBroadcast)
    {
        _code.Add(0x62);
        int inverted = ((register >> 3 & 1) << 7) | (x << 6) | (b << 5) | (register >> 4 << 4);
        _code.Add((byte)((inverted ^ 0xf0) | (int)map));
        _code.Add((byte)(((~second & 15) << 3) | 4 | (int)prefix));
        _code.Add((byte)(0x40 | (isBroadcast ? 0x10 : 0) | ((second >> 4 ^ 1) << 3)));
    }

    private void Vex(Prefix prefix, byte opcode, int register, int second, int third)
    {
        VexPrefix(prefix, second, 0, 0);
        _code.Add(opcode);
        Direct(register, third);
    }

    private void Vex(Prefix prefix, byte opcode, int register, int second, Address address)
    {
        VexPrefix(prefix, second, (int)address.Base >> 3, (int)(address.Index ?? 0) >> 3);
        _code.Add(opcode);
        Memory(register, address);
    }

    // c4, then R X B mmmmm (R X B inverted), W vvvv L pp (vvvv inverted); tiles have no register above 7, all are in map 0F38.
    private void VexPrefix(Prefix prefix, int second, int b, int x)
    {
        _code.Add(0xc4);
        _code.Add((byte)((((x << 6) | (b << 5)) ^ 0xe0) | (int)Map.F38));
        _code.Add((byte)(((~second & 15) << 3) | (int)prefix));
    }

    private void Direct(int register, int other) => _code.Add((byte)(0xc0 | ((register & 7) << 3) | (other & 7)));

    private void Memory(int register, Address address)
    {
        int low = (int)address.Base & 7;
        bool hasSib = address.Index is not null || low == (int)Gpr.Rsp;
        _code.Add((byte)(0x80 | ((register & 7) << 3) | (hasSib ? 4 : low)));
        if (hasSib)
        {
            int index = (int)(address.Index ?? Gpr.Rsp) & 7, scale = address.Scale switch { 1 => 0, 2 => 1, 4 => 2, _ => 3 };
            _code.Add((byte)((scale << 6) | (index << 3) | low));
        }

        Immediate(address.Displacement);
    }
}
