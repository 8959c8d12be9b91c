using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Tensors;

namespace Nibble.Tests.Tuning;

/// <summary>What a tape knows of places that are written again.</summary>
public class TapeTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AGeluIsForgottenWhenItOrItsInputIsWrittenOver(bool input)
    {
        using CpuBackend backend = new(new CpuOptions(1));
        using Workspace workspace = new(backend);
        using Tape tape = new(backend, workspace);
        using Workspace.Scope scope = workspace.Begin();
        (Tensor x, Tensor y) = (workspace.Rent(new Shape(2, 8)), workspace.Rent(new Shape(2, 8)));
        tape.Begin();
        tape.NoteGelu(y, new Tape.GeluInput(x, tape.Save(x), GeluKind.Tanh));
        Assert.Same(x, tape.GeluOf(y)?.Input);
        Assert.Null(tape.GeluOf(x));
        // Half of it is enough.
        tape.Overwrite((input ? x : y).Slice(1, 1));
        Assert.Null(tape.GeluOf(y));
        tape.End();
    }

    [Fact]
    public void AGeluInPlaceIsNotNoted()
    {
        using CpuBackend backend = new(new CpuOptions(1));
        using Workspace workspace = new(backend);
        using Tape tape = new(backend, workspace);
        using Workspace.Scope scope = workspace.Begin();
        Tensor x = workspace.Rent(new Shape(2, 8));
        tape.NoteGelu(x, new Tape.GeluInput(x, tape.Save(x), GeluKind.Tanh));
        Assert.Null(tape.GeluOf(x));
    }
}
