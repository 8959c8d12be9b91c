using Nibble.Backends.Cpu.MachineCode;

namespace Nibble.Tests.MachineCode;

/// <summary>Every encoding against the bytes of GNU as 2.40 for the same text (Intel syntax; disp32, load and rex choose the form).</summary>
public class AssemblerTests
{
    private static readonly (string Text, Action<Assembler> Emit, string Bytes)[] Instructions =
    [
        ("{load} mov rax, rdi", c => c.Mov(Gpr.Rax, Gpr.Rdi), "488bc7"),
        ("{load} mov r13, rcx", c => c.Mov(Gpr.R13, Gpr.Rcx), "4c8be9"),
        ("{load} mov rbx, r9", c => c.Mov(Gpr.Rbx, Gpr.R9), "498bd9"),
        ("{disp32} mov r8, [rax+72]", c => c.Mov(Gpr.R8, new Address(Gpr.Rax, 72)), "4c8b8048000000"),
        ("{disp32} mov rdx, [r12+8]", c => c.Mov(Gpr.Rdx, new Address(Gpr.R12, 8)), "498b942408000000"),
        ("{disp32} mov [rax+128], r15", c => c.Mov(new Address(Gpr.Rax, 128), Gpr.R15), "4c89b880000000"),
        ("mov rcx, 0", c => c.Mov(Gpr.Rcx, 0), "48c7c100000000"),
        ("mov r11, -5", c => c.Mov(Gpr.R11, -5), "49c7c3fbffffff"),
        ("{disp32} lea r11, [r10+r10*2]", c => c.Lea(Gpr.R11, new Address(Gpr.R10, 0, Gpr.R10, 2)), "4f8d9c5200000000"),
        ("{disp32} lea rcx, [r10+r10*4-8]", c => c.Lea(Gpr.Rcx, new Address(Gpr.R10, -8, Gpr.R10, 4)), "4b8d8c92f8ffffff"),
        ("{load} add r14, r12", c => c.Add(Gpr.R14, Gpr.R12), "4d03f4"),
        ("{disp32} add rbx, [rax+48]", c => c.Add(Gpr.Rbx, new Address(Gpr.Rax, 48)), "48039830000000"),
        ("add rdx, 512", c => c.Add(Gpr.Rdx, 512), "4881c200020000"),
        ("sub r8, 1000", c => c.Sub(Gpr.R8, 1000), "4981e8e8030000"),
        ("cmp r13, 300", c => c.Cmp(Gpr.R13, 300), "4981fd2c010000"),
        ("ret", c => c.Ret(), "c3"),
        ("xgetbv", c => c.Xgetbv(), "0f01d0"),
        ("vzeroupper", c => c.Vzeroupper(), "c5f877"),
        ("{disp32} vmovups zmm24, [rdx+64]", c => c.Vmovups(new Zmm(24), new Address(Gpr.Rdx, 64)), "62617c48108240000000"),
        ("{disp32} vmovups zmm7, [r12-64]", c => c.Vmovups(new Zmm(7), new Address(Gpr.R12, -64)), "62d17c4810bc24c0ffffff"),
        ("{disp32} vmovups zmm9, [r9+r11*8+64]", c => c.Vmovups(new Zmm(9), new Address(Gpr.R9, 64, Gpr.R11, 8)), "62117c48108cd940000000"),
        ("{disp32} vmovups [r14+128], zmm31", c => c.Vmovups(new Address(Gpr.R14, 128), new Zmm(31)), "62417c4811be80000000"),
        ("{disp32} vmovups [rax+704], zmm15", c => c.Vmovups(new Address(Gpr.Rax, 704), new Zmm(15)), "62717c4811b8c0020000"),
        ("vpxord zmm17, zmm17, zmm17", c => c.Vpxord(new Zmm(17), new Zmm(17), new Zmm(17)), "62a17540efc9"),
        ("vpxord zmm3, zmm12, zmm28", c => c.Vpxord(new Zmm(3), new Zmm(12), new Zmm(28)), "62911d48efdc"),
        ("vpsubd zmm1, zmm1, zmm31", c => c.Vpsubd(new Zmm(1), new Zmm(1), new Zmm(31)), "62917548facf"),
        ("vpslld zmm30, zmm21, 7", c => c.Vpslld(new Zmm(30), new Zmm(21), 7), "62b10d4072f507"),
        ("{disp32} vpaddd zmm8, zmm16, [rbx+64]", c => c.Vpaddd(new Zmm(8), new Zmm(16), new Address(Gpr.Rbx, 64)), "62717d40fe8340000000"),
        ("{disp32} vpmulld zmm31, zmm29, dword ptr [r14]{1to16}", c => c.VpmulldBroadcast(new Zmm(31), new Zmm(29), new Address(Gpr.R14)), "6242155040be00000000"),
        ("{disp32} vpbroadcastd zmm26, dword ptr [r9+12]", c => c.Vpbroadcastd(new Zmm(26), new Address(Gpr.R9, 12)), "62427d4858910c000000"),
        ("{disp32} vpbroadcastd zmm26, dword ptr [r9+r10*4+4]", c => c.Vpbroadcastd(new Zmm(26), new Address(Gpr.R9, 4, Gpr.R10, 4)), "62027d4858949104000000"),
        ("{disp32} vpbroadcastd zmm5, dword ptr [rdi+rcx+4]", c => c.Vpbroadcastd(new Zmm(5), new Address(Gpr.Rdi, 4, Gpr.Rcx)), "62f27d4858ac0f04000000"),
        ("vpdpbusd zmm11, zmm25, zmm26", c => c.Vpdpbusd(new Zmm(11), new Zmm(25), new Zmm(26)), "6212354050da"),
        ("vpdpbusd zmm19, zmm2, zmm13", c => c.Vpdpbusd(new Zmm(19), new Zmm(2), new Zmm(13)), "62c26d4850dd"),
        ("vpdpwssd zmm0, zmm24, zmm26", c => c.Vpdpwssd(new Zmm(0), new Zmm(24), new Zmm(26)), "62923d4052c2"),
        ("{disp32} vpdpwssd zmm10, zmm30, dword ptr [r14+4]{1to16}", c => c.VpdpwssdBroadcast(new Zmm(10), new Zmm(30), new Address(Gpr.R14, 4)), "62520d50529604000000"),
        ("vcvtdq2ps zmm4, zmm20", c => c.Vcvtdq2ps(new Zmm(4), new Zmm(20)), "62b17c485be4"),
        ("{disp32} vcvtdq2ps zmm20, [rsi+64]", c => c.Vcvtdq2ps(new Zmm(20), new Address(Gpr.Rsi, 64)), "62e17c485ba640000000"),
        ("{disp32} vcvtdq2ps zmm26, dword ptr [r14]{1to16}", c => c.Vcvtdq2psBroadcast(new Zmm(26), new Address(Gpr.R14)), "62417c585b9600000000"),
        ("vaddps zmm12, zmm12, zmm25", c => c.Vaddps(new Zmm(12), new Zmm(12), new Zmm(25)), "62111c4858e1"),
        ("vsubps zmm2, zmm2, zmm31", c => c.Vsubps(new Zmm(2), new Zmm(2), new Zmm(31)), "62916c485cd7"),
        ("vmulps zmm31, zmm30, zmm26", c => c.Vmulps(new Zmm(31), new Zmm(30), new Zmm(26)), "62010c4059fa"),
        ("{disp32} vmulps zmm23, zmm23, dword ptr [r9+20]{1to16}", c => c.VmulpsBroadcast(new Zmm(23), new Zmm(23), new Address(Gpr.R9, 20)), "62c1445059b914000000"),
        ("vfmadd231ps zmm22, zmm3, zmm27", c => c.Vfmadd231ps(new Zmm(22), new Zmm(3), new Zmm(27)), "62826548b8f3"),
        ("{disp32} vfmadd213ps zmm22, zmm3, [r8+64]", c => c.Vfmadd213ps(new Zmm(22), new Zmm(3), new Address(Gpr.R8, 64)), "62c26548a8b040000000"),
        ("{disp32} vfmadd231ps zmm17, zmm25, dword ptr [r9+8]{1to16}", c => c.Vfmadd231psBroadcast(new Zmm(17), new Zmm(25), new Address(Gpr.R9, 8)), "62c23550b88908000000"),
        ("{disp32} vaddps zmm17, zmm17, [rsi+64]", c => c.Vaddps(new Zmm(17), new Zmm(17), new Address(Gpr.Rsi, 64)), "62e17440588e40000000"),
        ("vpternlogd zmm29, zmm28, zmm25, 0xd8", c => c.Vpternlogd(new Zmm(29), new Zmm(28), new Zmm(25), 0xd8), "62031d4025e9d8"),
        ("vpermi2ps zmm30, zmm3, zmm20", c => c.Vpermi2ps(new Zmm(30), new Zmm(3), new Zmm(20)), "6222654877f4"),
        ("vpsrld zmm28, zmm21, 4", c => c.Vpsrld(new Zmm(28), new Zmm(21), 4), "62b11d4072d504"),
        ("vpsrad zmm9, zmm30, 6", c => c.Vpsrad(new Zmm(9), new Zmm(30), 6), "6291354872e606"),
        ("vpandd zmm29, zmm26, zmm28", c => c.Vpandd(new Zmm(29), new Zmm(26), new Zmm(28)), "62012d40dbec"),
        ("vpandnd zmm29, zmm26, zmm12", c => c.Vpandnd(new Zmm(29), new Zmm(26), new Zmm(12)), "62412d40dfec"),
        ("vpshufb zmm30, zmm24, zmm29", c => c.Vpshufb(new Zmm(30), new Zmm(24), new Zmm(29)), "62023d4000f5"),
        ("{disp32} vbroadcasti32x4 zmm25, [rbx+16]", c => c.Vbroadcasti32x4(new Zmm(25), new Address(Gpr.Rbx, 16)), "62627d485a8b10000000"),
        ("vpaddd zmm8, zmm16, zmm31", c => c.Vpaddd(new Zmm(8), new Zmm(16), new Zmm(31)), "62117d40fec7"),
        ("{disp32} vpdpbusd zmm19, zmm29, dword ptr [r9+4]{1to16}", c => c.VpdpbusdBroadcast(new Zmm(19), new Zmm(29), new Address(Gpr.R9, 4)), "62c21550509904000000"),
        ("vcvtps2dq zmm31, zmm30", c => c.Vcvtps2dq(new Zmm(31), new Zmm(30)), "62017d485bfe"),
        ("{disp32} prefetcht0 [rdx+r11+1024]", c => c.Prefetcht0(new Address(Gpr.Rdx, 1024, Gpr.R11)), "420f188c1a00040000"),
        ("{disp32} prefetcht0 [r9+r10*2+1088]", c => c.Prefetcht0(new Address(Gpr.R9, 1088, Gpr.R10, 2)), "430f188c5140040000"),
        ("{disp32} {rex} prefetcht0 [rdx+64]", c => c.Prefetcht0(new Address(Gpr.Rdx, 64)), "400f188a40000000"),
        ("{disp32} vcvtph2ps zmm30, [rbx+32]", c => c.Vcvtph2ps(new Zmm(30), new Address(Gpr.Rbx, 32)), "62627d4813b320000000"),
        ("{disp32} vpmovzxwd zmm31, [rsi+32]", c => c.Vpmovzxwd(new Zmm(31), new Address(Gpr.Rsi, 32)), "62627d4833be20000000"),
        ("{disp32} vpmovzxbd zmm31, [rsi+16]", c => c.Vpmovzxbd(new Zmm(31), new Address(Gpr.Rsi, 16)), "62627d4831be10000000"),
        ("{disp32} ldtilecfg [r8+64]", c => c.Ldtilecfg(new Address(Gpr.R8, 64)), "c4c278498040000000"),
        ("tilerelease", c => c.Tilerelease(), "c4e27849c0"),
        ("tilezero tmm5", c => c.Tilezero(new Tmm(5)), "c4e27b49e8"),
        ("{disp32} tileloadd tmm6, [rdx+r8+64]", c => c.Tileloadd(new Tmm(6), new Address(Gpr.Rdx, 64, Gpr.R8)), "c4a27b4bb40240000000"),
        ("{disp32} tileloadd tmm1, [r13+rcx]", c => c.Tileloadd(new Tmm(1), new Address(Gpr.R13, 0, Gpr.Rcx)), "c4c27b4b8c0d00000000"),
        ("{disp32} tilestored [r14+r12+1024], tmm3", c => c.Tilestored(new Address(Gpr.R14, 1024, Gpr.R12), new Tmm(3)), "c4827a4b9c2600040000"),
        ("{disp32} vdpbf16ps zmm10, zmm30, dword ptr [r9+132]{1to16}", c => c.Vdpbf16psBroadcast(new Zmm(10), new Zmm(30), new Address(Gpr.R9, 132)), "62520e50529184000000"),
        ("{disp32} vdpbf16ps zmm17, zmm2, dword ptr [r14]{1to16}", c => c.Vdpbf16psBroadcast(new Zmm(17), new Zmm(2), new Address(Gpr.R14)), "62c26e58528e00000000"),
        ("tdpbf16ps tmm2, tmm5, tmm6", c => c.Tdpbf16ps(new Tmm(2), new Tmm(5), new Tmm(6)), "c4e24a5cd5"),
        ("tdpbf16ps tmm3, tmm4, tmm7", c => c.Tdpbf16ps(new Tmm(3), new Tmm(4), new Tmm(7)), "c4e2425cdc"),
        ("tdpbssd tmm2, tmm5, tmm6", c => c.Tdpbssd(new Tmm(2), new Tmm(5), new Tmm(6)), "c4e24b5ed5"),
        ("tdpbsud tmm3, tmm4, tmm7", c => c.Tdpbsud(new Tmm(3), new Tmm(4), new Tmm(7)), "c4e2425edc"),
    ];

    public static TheoryData<string> Texts => [.. Instructions.Select(instruction => instruction.Text)];

    [Theory]
    [MemberData(nameof(Texts))]
    public void AnInstructionHasTheBytesOfTheReferenceAssembler(string text)
    {
        (_, Action<Assembler> emit, string bytes) = Instructions.Single(instruction => instruction.Text == text);
        Assembler code = new();
        emit(code);
        Assert.Equal(bytes, Convert.ToHexStringLower(code.ToCode()));
    }

    [Fact]
    public void JumpsReachTheirLabelsInBothDirections()
    {
        Assembler code = new();
        Label start = code.Here(), end = code.NewLabel();
        code.Jcc(Condition.Zero, end);
        code.Jmp(start);
        code.Bind(end);
        code.Jcc(Condition.NotLess, start);
        Assert.Equal("0f8405000000" + "e9f5ffffff" + "0f8defffffff", Convert.ToHexStringLower(code.ToCode()));
    }

    [Fact]
    public void ALabelThatIsNeverBoundIsAnError()
    {
        Assembler code = new();
        code.Jmp(code.NewLabel());
        Assert.Throws<InvalidOperationException>(() => code.ToCode());
    }

    [Fact]
    public void ATileNeedsTheBytesBetweenItsRows() =>
        Assert.Throws<ArgumentException>(() => new Assembler().Tileloadd(new Tmm(0), new Address(Gpr.Rdx)));

    [Fact]
    public void FunctionsStartAtMultiplesOf64()
    {
        Assembler code = new();
        code.Ret();
        code.Align();
        Assert.Equal(64, code.Length);
    }
}
