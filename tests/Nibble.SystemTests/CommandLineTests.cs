using System.CommandLine;
using System.Diagnostics;
using Nibble.Cli;
using Xunit;

namespace Nibble.SystemTests;

/// <summary>What the parser says about command lines, without running them; and the shells' completion.</summary>
public class CommandLineTests
{
    private static readonly RootCommand Root = CommandLineHost.Build(CancellationToken.None);

    public static TheoryData<string, string> Mistakes => new()
    {
        { "quantise m", "'quantise' is no command; did you mean 'quantize'?" },
        { "quantize m --bitz 4", "'--bitz' is no argument of quantize; did you mean '--bits'?" },
        { "generate m --prompt x --seed abc", "--seed: 'abc' is no whole number up to 2,147,483,647" },
        { "generate m --prompt x --temperature warm", "--temperature: 'warm' is no number" },
        { "runs abc", "run: 'abc' is no whole number" },
        { "runs --limit 0", "--limit 0: expected 1 or more" },
        { "finetune m --schedule foo", "--schedule: 'foo' is none of cosine, linear, constant, warmup-stable-decay" },
        { "demo extra", "'extra' is no argument of demo" },
        { "show \"\"", "model: the value is empty (a variable that is not set?)" },
        { "eval m --tasks \"\"", "--tasks: the value is empty (a variable that is not set?)" },
        { "quantize m --method nf4 -o \"\"", "--output: the value is empty (a variable that is not set?)" },
    };

    public static TheoryData<string> VerbNames => [.. Root.Subcommands.Select(verb => verb.Name)];

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void A_mistake_is_told_in_words(string line, string expected) => Assert.Contains(expected, UsageErrors.Of(Root.Parse(Words(line))));

    [Fact]
    public void A_model_that_comes_with_Nibble_has_a_name()
    {
        string? place = Root.Parse(["show", "nibble-llama-4m"]).GetValue<string>("model");
        Assert.True(File.Exists(Path.Combine(place!, "config.json")), place);
        Assert.Equal("elsewhere/nibble-llama-4m", Root.Parse(["show", "elsewhere/nibble-llama-4m"]).GetValue<string>("model"));
    }

    [Fact]
    public void Options_that_the_method_does_not_use_are_told()
    {
        CliResult full = Cli.Run("finetune", "nibble-llama-4m", "--method", "full", "--rank", "4", "--virtual-tokens", "3", "--dry-run");
        Assert.Equal(0, full.ExitCode);
        Assert.Contains("note: --rank, --virtual-tokens: not used by --method full", full.Errors);
        Assert.DoesNotContain("note:", Cli.Run("finetune", "nibble-llama-4m", "--method", "lora", "--rank", "4", "--dry-run").Errors);
    }

    [Theory]
    [InlineData("quantise model --method nf4", "'quantise' is no command; did you mean 'quantize'?")]
    [InlineData("quantize m --metod nf4 -o x", "'--metod' is no argument of quantize; did you mean '--method'?")]
    public void A_misspelled_word_is_one_mistake_not_several(string line, string expected) => Assert.Equal([expected], UsageErrors.Of(Root.Parse(Words(line))));

    [Fact]
    public void Help_is_also_a_word()
    {
        Assert.Contains("nibble quantize <model>", Cli.Run("help", "quantize").Output);
        CliResult all = Cli.Run("help");
        Assert.Equal(0, all.ExitCode);
        Assert.Contains("Commands:", all.Output);
    }

    [Theory]
    [InlineData("recommend nibble-llama-4m --memory 6", 2, "--memory 6 is 6 B|give a unit, for example --memory 6GB")]
    [InlineData("recommend nibble-llama-4m --memory lots", 2, "--memory lots: not understood|for example --memory 3.2GB")]
    [InlineData("compare FOLDER -o x", 3, "FOLDER is a folder|give one of FOLDER/a.yaml")]
    [InlineData("generate FOLDER/a.yaml --prompt x", 3, "FOLDER/a.yaml is no model|one .safetensors or .gguf file")]
    [InlineData("quantize FOLDER/config.json --method nf4 -o x", 3, "FOLDER/config.json has no weights|give its folder: FOLDER")]
    [InlineData("finetune FOLDER/a.gguf --data FOLDER/a.yaml -o x", 3, "FOLDER/a.gguf is a GGUF file")]
    [InlineData("convert nibble-llama-4m", 2, "convert takes a model and an output|there is no output")]
    public void What_newcomers_type_is_answered_in_their_words(string line, int code, string expected)
    {
        string folder = Directory.CreateTempSubdirectory("nibble-new-").FullName;
        try
        {
            File.WriteAllText(Path.Combine(folder, "a.yaml"), "models: []");
            File.WriteAllText(Path.Combine(folder, "a.gguf"), "no GGUF");
            File.Copy(Path.Combine(Repository.Root, "assets", "nibble-llama-4m", "config.json"), Path.Combine(folder, "config.json"));
            CliResult result = Cli.Run(Words(line.Replace("FOLDER", folder, StringComparison.Ordinal)));
            Assert.Equal(code, result.ExitCode);
            Assert.All(expected.Replace("FOLDER", folder, StringComparison.Ordinal).Split('|'), part => Assert.Contains(part, result.Errors, StringComparison.Ordinal));
            Assert.DoesNotContain("warning:", result.Errors, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Doctor_names_states_in_its_document_as_in_its_table()
    {
        string[] states = [.. Cli.Run("doctor", "--json").Json.GetProperty("findings").EnumerateArray().Select(finding => finding.GetProperty("state").GetString()!)];
        Assert.Contains("ok", states);
        Assert.All(states, state => Assert.Contains(state, (string[])["ok", "limited", "broken"]));
    }

    [Fact]
    public void A_prompt_on_stdin_is_text_or_refused()
    {
        Assert.Contains("stdin is no text in UTF-8", Bytes([(byte)'d', 0xE9, 0xFF]));
        Assert.Contains("4 tokens", Bytes("déf"u8.ToArray()));

        static string Bytes(byte[] input)
        {
            ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "Nibble.Cli.dll"), "generate", "nibble-llama-4m", "--prompt", "-", "--max-tokens", "4"])
            {
                RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true,
            };
            using Process process = Process.Start(start)!;
            process.StandardInput.BaseStream.Write(input);
            process.StandardInput.Close();
            process.StandardOutput.ReadToEnd();
            return process.StandardError.ReadToEnd();
        }
    }

    [Fact]
    public void A_text_may_be_empty() => Assert.Empty(UsageErrors.Of(Root.Parse(["chat", "m", "--system", ""])));

    [Theory]
    [MemberData(nameof(VerbNames))]
    public void Every_verb_has_examples_that_its_parser_takes(string verb)
    {
        Assert.NotEmpty(Examples.Of(verb));
        foreach (string example in Examples.Of(verb).Where(example => example.StartsWith("nibble ", StringComparison.Ordinal)))
        {
            string line = example["nibble ".Length..].Split([" < ", " > "], StringSplitOptions.None)[0];
            Assert.StartsWith(verb, line);
            Assert.Empty(UsageErrors.Of(Root.Parse(Words(line))));
        }
    }

    [Fact]
    public void Help_is_not_wider_than_its_longest_name_of_a_value()
    {
        CliResult help = Cli.Run("finetune", "--help");
        Assert.Equal(0, help.ExitCode);
        string line = help.Output.Split('\n').Single(line => line.Contains("--optimizer", StringComparison.Ordinal));
        Assert.InRange(line.IndexOf("adamw, ", StringComparison.Ordinal), 10, 40);
        Assert.Contains("Examples:\n  nibble finetune --demo -o tuned", help.Output);
    }

    [Fact]
    public void The_name_alone_shows_the_commands_and_does_not_count_as_done()
    {
        CliResult nothing = Cli.Run();
        Assert.Equal(2, nothing.ExitCode);
        Assert.Empty(nothing.Output);
        Assert.Contains("quantize <model>", nothing.Errors);
    }

    [Theory]
    [InlineData("--set=method=nf4 --set=double_quant=true")]
    [InlineData("--set method=nf4 --set double_quant=true")]
    [InlineData("--set method=fp4 --set method=nf4 --set double_quant=true")]
    public void Settings_are_taken_in_both_spellings(string settings) =>
        Assert.Equal(["quantize", "m", "--method=nf4", "--double-quant=true"], ConfigFile.Expand(Words("quantize m " + settings), Root));

    [Fact]
    public void A_list_in_a_file_repeats_an_option_that_may_be_repeated()
    {
        string file = Path.GetTempFileName();
        try
        {
            File.WriteAllText(file, "override: ['*.mlp.*=rtn:bits=8,group_size=32', '*.c_attn=none']\nlayout: hqq\noutput: there\n");
            string[] expected = ["quantize", "m", "-o", "here", "--override=*.mlp.*=rtn:bits=8,group_size=32", "--override=*.c_attn=none", "--layout=hqq"];
            Assert.Equal(expected, ConfigFile.Expand(["quantize", "m", "-o", "here", $"--config={file}"], Root));
            File.WriteAllText(file, "target_modules: [c_attn, c_proj]\n");
            Assert.Equal(["finetune", "m", "--target-modules=c_attn,c_proj"], ConfigFile.Expand(["finetune", "m", "--config", file], Root));
        }
        finally
        {
            File.Delete(file);
        }
    }

    private static string[] Words(string line) => [.. System.CommandLine.Parsing.CommandLineParser.SplitCommandLine(line)];
}
