namespace Nibble.Backends.Cpu.MachineCode;

/// <summary>A general register; the value is its number.</summary>
internal enum Gpr
{
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

/// <summary>A vector register of 512 bits, 0 to 31.</summary>
internal readonly record struct Zmm(int Number);

/// <summary>A tile register, 0 to 7.</summary>
internal readonly record struct Tmm(int Number);

/// <summary>[Base + Index·Scale + Displacement], always encoded with 32 bits of displacement: one rule, whatever the instruction.</summary>
internal readonly record struct Address(Gpr Base, int Displacement = 0, Gpr? Index = null, int Scale = 1);

/// <summary>A place in the code that jumps can name before it is known.</summary>
internal readonly record struct Label(int Number);

/// <summary>What a conditional jump waits for; the value is the instruction's condition code.</summary>
internal enum Condition
{
    Zero = 4,
    NotZero = 5,
    Less = 12,
    NotLess = 13,
}
