using System.CommandLine;
using Nibble.Cli;
using Nibble.IO;

namespace Nibble.Tests.CommandLine;

/// <summary>What <c>--config</c> and <c>--set</c> become, and options that would be passed over.</summary>
public sealed class ConfigFileTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void ValuesStandBehindASpaceOrAnEqualsSign()
    {
        string file = Write("bits: 4\ngroup_size: 32\nsymmetric: true\n");
        string[] expected = ["quantize", "m", "--bits=4", "--group-size=32", "--symmetric=true"];
        Assert.Equal(expected, Expand("quantize", "m", "--config", file));
        Assert.Equal(expected, Expand("quantize", "m", "--config=" + file));
        Assert.Equal(["quantize", "m", "--bits=3"], Expand("quantize", "m", "--set", "bits=3"));
        Assert.Equal(["quantize", "m", "--override=*.mlp.*=rtn:bits=8"], Expand("quantize", "m", "--set=override=*.mlp.*=rtn:bits=8"));
    }

    [Fact]
    public void FlagsWinOverSettingsAndThoseOverTheFile()
    {
        string file = Write("output: x\nbits: 4\nmethod: rtn\n");
        Assert.Equal(["quantize", "m", "-o", "y", "--bits=3", "--method=rtn"], Expand("quantize", "m", "-o", "y", "--set", "bits=2", "--set", "bits=3", "--config", file));
        Assert.Equal(["--verbose", "quantize", "m", "-o", "y", "--bits=4", "--method=rtn"], Expand("--verbose", "quantize", "m", "-o", "y", "--config", file));
    }

    [Fact]
    public void ListsAreSeveralValuesOrOneTextAsTheOptionTakesThem()
    {
        string file = Write("prompt: ['a, b', c]\ntarget_modules: [q_proj, v_proj]\n");
        Assert.Equal(["generate", "m", "--prompt=a, b", "--prompt=c", "--target-modules=q_proj,v_proj"], Expand("generate", "m", "--config", file));
        Assert.Equal(["finetune", "m", "--prompt=a, b,c", "--target-modules=q_proj,v_proj"], Expand("finetune", "m", "--config", file));
    }

    [Theory]
    [InlineData("bits: {a: 1}\n", "must be a value or a list of values")]
    [InlineData("- bits\n", "expected a mapping")]
    [InlineData("bits: [\n", "not YAML")]
    public void OtherFilesAreRefused(string yaml, string because)
    {
        string file = Write(yaml);
        Assert.Contains(because, Assert.Throws<NibbleException>(() => Expand("quantize", "m", "--config", file)).Message, StringComparison.Ordinal);
        Assert.Contains("expected key=value", Assert.Throws<NibbleException>(() => Expand("quantize", "m", "--set", "bits")).Message, StringComparison.Ordinal);
        Assert.Contains("no such file", Assert.Throws<NibbleException>(() => Expand("quantize", "m", "--config", _folder["none.yaml"])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--bits", "4")]
    [InlineData("--double-quant", "false")]
    [InlineData("--symmetric")]
    [InlineData("--quantize-head")]
    [InlineData("--override", "*.mlp.*=rtn:bits=8")]
    public void OptionsOfAQuantizationNeedAMethod(params string[] options)
    {
        EvalVerb verb = new();
        Command command = verb.Create(CancellationToken.None);
        string message = Assert.Throws<NibbleException>(() => verb.Read(command.Parse(["m", .. options]))).Message;
        Assert.Contains($"{options[0]} needs --method", message, StringComparison.Ordinal);
        Assert.NotNull(verb.Read(command.Parse(["m", "--method", "nf4"])).Load.Quantization);
        Assert.Null(verb.Read(command.Parse(["m"])).Load.Quantization);
    }

    private static string[] Expand(params string[] arguments) => ConfigFile.Expand(arguments, CommandLineHost.Build(CancellationToken.None));

    private string Write(string yaml)
    {
        File.WriteAllText(_folder["config.yaml"], yaml);
        return _folder["config.yaml"];
    }
}
