using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Backends.Cuda;
using Nibble.Evaluation.Tasks;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Layouts;
using Nibble.Quantization.Methods;

namespace Nibble;

/// <summary>The short, ordered lists of everything that can be chosen by name. To add a thing: write its file, and one line here.</summary>
public static class Registry
{
    /// <summary>Kinds of devices; <c>auto</c> takes the first.</summary>
    public static IReadOnlyList<BackendKind> Backends { get; } =
    [
        new("cpu", request => new CpuBackend(new CpuOptions(request.Threads, Compute: request.Compute))),
        new("cuda", request => new CudaBackend(new CudaOptions(request.Number, request.Compute))),
    ];

    /// <summary>Families of models.</summary>
    public static IReadOnlyList<IArchitecture> Architectures { get; } =
    [
        new Gpt2Architecture(),
        new LlamaArchitecture(),
    ];

    /// <summary>Quantization methods.</summary>
    public static IReadOnlyList<IQuantizationMethod> Methods { get; } =
    [
        new LlmInt8Method(),
        CodebookMethod.Nf4(),
        CodebookMethod.Fp4(),
        new RtnMethod(),
        new QuantoMethod(),
        new HqqMethod(),
        new GptqMethod(),
        new AwqMethod(),
        new TernaryMethod(),
    ];

    /// <summary>Layouts of quantized checkpoints.</summary>
    public static IReadOnlyList<IQuantizationLayout> Layouts { get; } =
    [
        new BitsAndBytes4BitLayout(),
        new BitsAndBytesInt8Layout(),
        new BitNetLayout(),
        new CompressedTensorsLayout(),
        new QuantoLayout(),
        new HqqLayout(),
        new GptqLayout(),
        new AwqLayout(),
    ];

    /// <summary>The layout of a name; an unknown one is refused with the list of those there are.</summary>
    public static IQuantizationLayout Layout(string name)
    {
        IQuantizationLayout? found = Layouts.FirstOrDefault(layout => layout.Name == name);
        if (found is null)
        {
            Throw.Usage($"unknown layout '{name}'", $"known are {string.Join(", ", Layouts.Select(layout => layout.Name))}", "see docs/quantize.md");
        }

        return found;
    }

    /// <summary>The layout that reads a quantized model; one that Nibble cannot read is refused with the list of those it can.</summary>
    public static IQuantizationLayout Layout(ModelConfig config)
    {
        JsonConfig section = config.Quantization ?? throw new ArgumentException($"{config.Path} describes a dense model");
        IQuantizationLayout? found = Layouts.FirstOrDefault(layout => layout.QuantMethod == config.QuantMethod && layout.Reads(section));
        if (found is null)
        {
            Throw.BadInput(
                $"{config.Path}: a model quantized with quant_method '{config.QuantMethod}' cannot be read",
                $"read are {string.Join(", ", Layouts.Select(layout => layout.QuantMethod).Distinct())}",
                "convert the model, or use its dense form");
        }

        return found;
    }

    /// <summary>The method of a name; an unknown one is refused with the list of those there are.</summary>
    public static IQuantizationMethod Method(string name)
    {
        IQuantizationMethod? found = Methods.FirstOrDefault(method => method.Name == name);
        if (found is null)
        {
            Throw.Usage($"unknown quantization method '{name}'", $"known are {string.Join(", ", Methods.Select(method => method.Name))}", "see docs/methods.md");
        }

        return found;
    }

    /// <summary>What can be measured.</summary>
    public static IReadOnlyList<IEvaluationTask> Tasks { get; } =
    [
        new PerplexityTask(),
        new ClassificationTask(),
        new LatencyTask(),
    ];

    /// <summary>The task of a name; an unknown one is refused with the list of those there are.</summary>
    public static IEvaluationTask Task(string name)
    {
        IEvaluationTask? found = Tasks.FirstOrDefault(task => task.Name == name);
        if (found is null)
        {
            Throw.Usage($"unknown task '{name}'", $"known are {string.Join(", ", Tasks.Select(task => task.Name))}", "see docs/eval.md");
        }

        return found;
    }

    /// <summary>The family that serves a config's <c>model_type</c>; an unknown one is refused with the list of those supported.</summary>
    public static IArchitecture Architecture(ModelConfig config)
    {
        IArchitecture? found = Architectures.FirstOrDefault(family => family.ModelTypes.Contains(config.ModelType));
        if (found is null)
        {
            Throw.BadInput(
                $"{config.Path}: model_type '{config.ModelType}' is not supported",
                $"supported are {string.Join(", ", Architectures.SelectMany(family => family.ModelTypes))}",
                "choose a model of one of these families");
        }

        return found;
    }
}
