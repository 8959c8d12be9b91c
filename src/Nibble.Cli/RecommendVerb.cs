using System.CommandLine;
using System.Globalization;
using Nibble.Backends;
using Nibble.Backends.Cuda.Driver;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization.Budget;
using Nibble.Quantization.Calibration;
using Nibble.Runs.Recommending;
using Nibble.Runs.Studies;

namespace Nibble.Cli;

/// <summary><c>nibble recommend</c>: how to run a model within a memory, by measurement.</summary>
internal sealed class RecommendVerb : IVerb
{
    private const long LeastMemory = 1_000_000;

    private readonly Argument<string> _model = CommonOptions.Model();
    private readonly Option<string?> _memory = new("--memory") { Description = "Memory that running may take, as 6GB or 5.5GiB (default: all that this machine or card has)." };
    private readonly Option<string> _prefer = new("--prefer") { Description = "quality, size or speed.", DefaultValueFactory = _ => "quality" };
    private readonly Option<double> _maxLoss = new("--max-loss") { Description = "Perplexity that smaller and faster forms may cost, as a factor.", DefaultValueFactory = _ => 1.02 };
    private readonly Option<int?> _context = new("--context") { Description = "Tokens of a text, prompt and answer (default: 4096, or the model's context)." };
    private readonly Option<int> _batch = new("--batch-size") { Description = "Texts at once.", DefaultValueFactory = _ => 1 };
    private readonly Option<string> _data = new("--data") { Description = "Text to measure on: a file, a folder or a name.", DefaultValueFactory = _ => "demo" };
    private readonly Option<int> _limit = new("--limit") { Description = "Most tokens of it.", DefaultValueFactory = _ => 8192 };
    private readonly Option<string> _calibration = new("--calibration") { Description = "Text for methods that look at the inputs of layers.", DefaultValueFactory = _ => "demo" };
    private readonly Option<int> _samples = new("--samples") { Description = "Samples of it.", DefaultValueFactory = _ => 32 };
    private readonly Option<double> _minutes = new("--minutes") { Description = "Most minutes that measuring may take, by estimate.", DefaultValueFactory = _ => 30 };
    private readonly Option<string> _device = CommonOptions.Device();
    private readonly Option<int?> _threads = CommonOptions.Threads();
    private readonly Option<string> _activations = CommonOptions.Activations("f32");
    private readonly Option<string> _kvCache = CommonOptions.KvCache();
    private readonly Option<string?> _output = CommonOptions.Output("Folder for results and report (default: nibble-recommend-1, -2 … in the working folder); given again, the command goes on there after an interruption.");
    private readonly Option<bool> _dryRun = CommonOptions.DryRun();
    private readonly Option<bool> _json = CommonOptions.Json();

    public Command Create(CancellationToken cancellation)
    {
        _prefer.AcceptOnlyFromAmong("quality", "size", "speed");
        Command command = new("recommend", "Find the best form of a model for a memory: counted, then measured.")
        {
            _model, _memory, _prefer, _maxLoss, _context, _batch, _data, _limit, _calibration, _samples, _minutes, _device, _threads, _activations, _kvCache, _output, _dryRun, _json,
        };
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private int Run(ParseResult parsed, CancellationToken cancellation)
    {
        long machine = MachineBytes(parsed.GetValue(_device)!);
        RecommendRequest request = Read(parsed, machine);
        Recommender recommender = Recommender.Of(request, machine);
        StudyResults? results = null;
        if (recommender.Plan is { } plan)
        {
            StudyConsole.ShowPlan(plan);
            if (!parsed.GetValue(_dryRun))
            {
                string output = parsed.GetValue(_output) ?? StudyConsole.FreeFolder("nibble-recommend");
                results = StudyConsole.Run(plan, output, force: false, cancellation);
                Console.Error.WriteLine($"report: {Path.GetFullPath(Path.Combine(output, "report.html"))}");
            }
        }

        Recommendation recommendation = recommender.Choose(results);
        RecommendRendering.Show(recommendation, isDryRun: parsed.GetValue(_dryRun));
        if (parsed.GetValue(_json))
        {
            Output.Json(RecommendRendering.Document(recommendation));
        }

        return recommendation.Chosen is not null || parsed.GetValue(_dryRun) ? 0 : (int)ErrorKind.Failed;
    }

    // A bare 6 means 6 GB to who writes it; as bytes, nothing would fit, and the answer would be about that.
    private static long Memory(string text)
    {
        long bytes = BudgetRequest.ParseBytes(text, "--memory").MaxBytes!.Value;
        if (bytes < LeastMemory)
        {
            Throw.Usage($"--memory {text} is {Sizes.Text(bytes)}", "no model runs in that", $"give a unit, for example --memory {(char.IsAsciiDigit(text[^1]) ? text : "6")}GB");
        }

        return bytes;
    }

    private RecommendRequest Read(ParseResult parsed, long machine) =>
        new(parsed.GetRequiredValue(_model), parsed.GetValue(_memory) is { } memory ? Memory(memory) : machine)
        {
            Context = parsed.GetValue(_context),
            Batch = parsed.GetValue(_batch),
            KvCache = Enum.Parse<KvCacheType>(parsed.GetValue(_kvCache)!, ignoreCase: true),
            Data = parsed.GetValue(_data)!,
            Limit = parsed.GetValue(_limit),
            Calibration = new CalibrationRequest(parsed.GetValue(_calibration)!) { Samples = parsed.GetValue(_samples) },
            Seconds = 60 * parsed.GetValue(_minutes),
            Prefer = Enum.Parse<Preference>(parsed.GetValue(_prefer)!, ignoreCase: true),
            MaxLoss = parsed.GetValue(_maxLoss),
            Device = parsed.GetValue(_device)!,
            Threads = parsed.GetValue(_threads),
            Activations = parsed.GetValue(_activations)!,
        };

    private static long MachineBytes(string device)
    {
        if (!device.StartsWith("cuda", StringComparison.Ordinal))
        {
            return MachineFacts.Read().MemoryBytes;
        }

        CudaFacts[] cards = [.. CudaCards.All()];
        int number = device.Split(':') is [_, string text] && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int given) ? given : 0;
        return number < cards.Length ? cards[number].MemoryBytes : throw new NibbleException(ErrorKind.NotFound, $"there is no card {device}", $"{cards.Length} cards are there", "'nibble devices' lists them, 'nibble doctor' says what is missing");
    }
}
