using System.Security.Cryptography;
using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// Checkpoints of a training, <c>checkpoint-N</c> inside its output: parameters and moments as F32 in row order, the step, and a
/// manifest with the hash of every file, which is written last. Data order, dropout and schedule are functions of seed and step,
/// so nothing else is needed to go on exactly.
/// </summary>
internal sealed class TrainCheckpoints(string output, Trainer trainer, FineTuneOptions options)
{
    private const string Manifest = "manifest.json";
    private const string State = "trainer_state.json";
    private const string Weights = "parameters.safetensors";
    private const string Moments = "optimizer.safetensors";

    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true };

    /// <summary>Makes the output folder, or reads the newest checkpoint in it.</summary>
    public void Start(Action<string>? note)
    {
        if (!options.Resume)
        {
            using OutputFolder folder = OutputFolder.Create(output, options.Force);
            folder.Commit();
            return;
        }

        string? newest = Directory.Exists(output)
            ? Directory.EnumerateDirectories(output, "checkpoint-*").OrderByDescending(StepOf).FirstOrDefault(path => File.Exists(Path.Combine(path, Manifest)))
            : null;
        if (newest is null)
        {
            Throw.NotFound($"{output} has no checkpoint to resume from", "looked for checkpoint-N with a manifest.json", "start without --resume");
        }

        Load(newest);
        note?.Invoke($"resumed from {newest}, step {trainer.Step} of {trainer.Steps}");
    }

    /// <summary>Saves when it is time to.</summary>
    public void AfterStep()
    {
        if (options.Trainer.SaveSteps > 0 && trainer.Step % options.Trainer.SaveSteps == 0)
        {
            Save();
        }
    }

    /// <summary>Saves now; the folder appears whole or not at all.</summary>
    public void Save()
    {
        using OutputFolder folder = OutputFolder.Create(Path.Combine(output, $"checkpoint-{trainer.Step}"), force: true);
        SaveTensors(folder.File(Weights), trainer.Parameters.All.Select(parameter => (parameter, parameter.Name, parameter.Values)));
        SaveTensors(
            folder.File(Moments),
            trainer.Parameters.All.Zip(trainer.Optimizer.Moments, (parameter, moments) => (parameter, moments)).SelectMany(item => new[]
            {
                (item.parameter, "first." + item.parameter.Name, item.moments.First),
                (item.parameter, "second." + item.parameter.Name, item.moments.Second),
            }));
        AtomicFile.WriteAllBytes(folder.File(State), JsonSerializer.SerializeToUtf8Bytes(
            new { global_step = trainer.Step, max_steps = trainer.Steps, settings = Fingerprint() }, Json));
        Dictionary<string, string> hashes = new[] { Weights, Moments, State }.ToDictionary(name => name, name => Hash(folder.File(name)));
        AtomicFile.WriteAllBytes(folder.File(Manifest), JsonSerializer.SerializeToUtf8Bytes(hashes, Json));
        folder.Commit();
    }

    private void Load(string folder)
    {
        JsonConfig manifest = JsonConfig.Open(Path.Combine(folder, Manifest));
        foreach (string name in new[] { Weights, Moments, State })
        {
            string path = Path.Combine(folder, name);
            if (!File.Exists(path) || Hash(path) != manifest.GetString(name))
            {
                Throw.BadInput($"{path} is missing or is not the file that its manifest names", "it was changed or damaged after it was saved", "delete this checkpoint to resume from an older one");
            }
        }

        JsonConfig state = JsonConfig.Open(Path.Combine(folder, State));
        RequireSameSettings(folder, state.Section("settings")!);
        LoadTensors(Path.Combine(folder, Weights), parameter => [(parameter.Name, parameter.Values)]);
        Dictionary<string, (Tensor First, Tensor Second)> moments = trainer.Optimizer.Moments.ToDictionary(item => item.Name, item => (item.First, item.Second));
        LoadTensors(Path.Combine(folder, Moments), parameter =>
            [("first." + parameter.Name, moments[parameter.Name].First), ("second." + parameter.Name, moments[parameter.Name].Second)]);
        trainer.Optimizer.Steps = state.GetInt("global_step", min: 0);
    }

    private void SaveTensors(string path, IEnumerable<(Parameter Parameter, string Name, Tensor Values)> tensors)
    {
        (Parameter Parameter, string Name, Tensor Values)[] all = [.. tensors];
        using SafetensorsWriter writer = SafetensorsWriter.Create(path, all.Select(item => new SafetensorsSpec(item.Name, DType.F32, item.Parameter.Shape)));
        foreach ((Parameter parameter, string name, Tensor values) in all)
        {
            using Tensor rows = ParameterRows.Read(trainer.Backend, parameter, values);
            writer.Append(name, rows);
        }

        writer.Commit();
    }

    private void LoadTensors(string path, Func<Parameter, IEnumerable<(string Name, Tensor Target)>> targets)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        AdapterFile.Check(file, trainer.Parameters.All.SelectMany(parameter => targets(parameter).Select(item => new Models.TensorSpec(item.Name, parameter.Shape))));
        foreach (Parameter parameter in trainer.Parameters.All)
        {
            foreach ((string name, Tensor target) in targets(parameter))
            {
                using Tensor rows = file.Load(name);
                ParameterRows.Write(trainer.Backend, parameter, rows, target);
            }
        }
    }

    /// <summary>Everything that a resumed training must have in common with the one that saved.</summary>
    private Dictionary<string, string> Fingerprint()
    {
        TrainerSettings t = options.Trainer;
        return new Dictionary<string, string>
        {
            ["method"] = options.Method,
            ["data"] = Hash(options.Data!),
            ["rank"] = $"{options.Lora.Rank}",
            ["alpha"] = $"{options.Lora.Alpha:R}",
            ["dropout"] = $"{options.Lora.Dropout:R}",
            ["target_modules"] = string.Join(',', options.Lora.TargetModules),
            ["batch_size"] = $"{t.BatchSize}",
            ["grad_accumulation_steps"] = $"{t.GradAccumulationSteps}",
            ["max_seq_length"] = $"{t.MaxSeqLength}",
            ["learning_rate"] = $"{t.LearningRate:R}",
            ["schedule"] = $"{t.Schedule}",
            ["warmup_ratio"] = $"{t.WarmupRatio:R}",
            ["optimizer"] = $"{t.Optimizer}",
            ["max_grad_norm"] = $"{t.MaxGradNorm:R}",
            ["seed"] = $"{t.Seed}",
            ["steps"] = $"{trainer.Steps}",
        };
    }

    private void RequireSameSettings(string folder, JsonConfig saved)
    {
        string[] different = [.. Fingerprint().Where(item => saved.GetString(item.Key, string.Empty) != item.Value).Select(item => $"{item.Key}: was {saved.GetString(item.Key, "absent")}, is {item.Value}")];
        if (different.Length > 0)
        {
            Throw.Usage($"{folder} was saved with other settings: {string.Join("; ", different)}", "a resumed training must equal one that was not interrupted", "give the same settings, or start without --resume");
        }
    }

    private static int StepOf(string folder) => int.TryParse(Path.GetFileName(folder).AsSpan("checkpoint-".Length), out int step) ? step : -1;

    private static string Hash(string path)
    {
        if (Directory.Exists(path))
        {
            return string.Join('+', Directory.EnumerateFiles(path).Order(StringComparer.Ordinal).Select(Hash));
        }

        using FileStream stream = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}
