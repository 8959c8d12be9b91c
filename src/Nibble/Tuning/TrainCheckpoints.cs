using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Nibble.Data.Streaming;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization.LowRank;
using Nibble.Tensors;

namespace Nibble.Tuning;

/// <summary>
/// Checkpoints of a training, <c>checkpoint-N</c> inside its output: parameters as F32 in row order, the optimizer's states, the step,
/// what happened so far, and a manifest with the hash of every file, which is written last. Data order, dropout and schedule are
/// functions of seed and step, so nothing else is needed to go on exactly, but the position in data that is streamed.
/// </summary>
internal sealed class TrainCheckpoints(string output, Trainer trainer, FineTuneOptions options)
{
    private const string Manifest = "manifest.json";
    private const string State = "trainer_state.json";
    private const string Weights = "parameters.safetensors";
    private const string States = "optimizer.safetensors";
    private const string Best = "best";
    private const int Kept = 2;

    private static readonly JsonSerializerOptions Json = DocumentJson.Known(new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower });

    /// <summary>Makes the output folder, or reads the newest checkpoint in it; gives what has happened before.</summary>
    public TrainHistory Start(Action<string>? note)
    {
        if (!options.Resume)
        {
            using OutputFolder folder = OutputFolder.Create(output, options.Force);
            folder.Commit();
            return new TrainHistory();
        }

        string? newest = All().FirstOrDefault();
        if (newest is null)
        {
            Throw.NotFound($"{output} has no checkpoint to resume from", "looked for checkpoint-N with a manifest.json", "start without --resume");
        }

        TrainHistory history = Load(newest);
        note?.Invoke($"resumed from {newest}, step {trainer.Step} of {trainer.Steps}");
        return history;
    }

    /// <summary>Saves now; the folder appears whole or not at all, and only then the oldest ones go.</summary>
    public void Save(TrainHistory history)
    {
        using (OutputFolder folder = OutputFolder.Create(Path.Combine(output, $"checkpoint-{trainer.Step}"), force: true))
        {
            SaveParameters(folder.File(Weights));
            SaveStates(folder.File(States));
            AtomicFile.WriteAllBytes(folder.File(State), DocumentJson.Bytes(
                new TrainStateDocument(trainer.Step, trainer.Steps, trainer.Source.Position, Fingerprint(), history.Steps, history.Evaluations), Json));
            Dictionary<string, string> hashes = new[] { Weights, States, State }.ToDictionary(name => name, name => Hash(folder.File(name)));
            AtomicFile.WriteAllBytes(folder.File(Manifest), DocumentJson.Bytes(hashes, Json));
            folder.Commit();
        }

        foreach (string old in All().Skip(Kept))
        {
            Directory.Delete(old, recursive: true);
        }
    }

    /// <summary>Keeps the parameters as they are now, as the best so far.</summary>
    public void SaveBest()
    {
        using OutputFolder folder = OutputFolder.Create(Path.Combine(output, Best), force: true);
        SaveParameters(folder.File(Weights));
        folder.Commit();
    }

    /// <summary>Takes the best parameters back; false if none were kept.</summary>
    public bool LoadBest()
    {
        string folder = Path.Combine(output, Best);
        if (!Directory.Exists(folder))
        {
            return false;
        }

        LoadParameters(Path.Combine(folder, Weights));
        Directory.Delete(folder, recursive: true);
        return true;
    }

    /// <summary>The checkpoints that are whole, newest first.</summary>
    private IEnumerable<string> All() => Directory.Exists(output)
        ? Directory.EnumerateDirectories(output, "checkpoint-*").Where(path => StepOf(path) >= 0 && File.Exists(Path.Combine(path, Manifest))).OrderByDescending(StepOf)
        : [];

    private TrainHistory Load(string folder)
    {
        JsonConfig manifest = JsonConfig.Open(Path.Combine(folder, Manifest));
        foreach (string name in new[] { Weights, States, State })
        {
            string path = Path.Combine(folder, name);
            if (!File.Exists(path) || Hash(path) != manifest.GetString(name))
            {
                Throw.BadInput($"{path} is missing or is not the file that its manifest names", "it was changed or damaged after it was saved", "delete this checkpoint to resume from an older one");
            }
        }

        JsonConfig state = JsonConfig.Open(Path.Combine(folder, State));
        RequireSameSettings(folder, state.Section("settings")!);
        LoadParameters(Path.Combine(folder, Weights));
        using (SafetensorsFile file = SafetensorsFile.Open(Path.Combine(folder, States)))
        {
            trainer.Optimizer.Load(file);
        }

        trainer.Optimizer.Steps = state.GetInt("global_step", min: 0);
        trainer.Source.GoTo(trainer.Step, state.Element.TryGetProperty("position", out JsonElement place) ? DocumentJson.Read<StreamPosition>(place, Json) : null);
        return new TrainHistory
        {
            Steps = DocumentJson.Read<List<StepReport>>(state.Element.GetProperty("steps"), Json)!,
            Evaluations = DocumentJson.Read<List<EvaluationReport>>(state.Element.GetProperty("evaluations"), Json)!,
        };
    }

    private void SaveParameters(string path)
    {
        IReadOnlyList<Parameter> all = trainer.Parameters.All;
        using SafetensorsWriter writer = SafetensorsWriter.Create(path, all.Select(item => new SafetensorsSpec(item.Name, DType.F32, item.Shape)));
        foreach (Parameter parameter in all)
        {
            using Tensor rows = ParameterRows.Read(trainer.Backend, parameter, parameter.Values);
            writer.Append(parameter.Name, rows);
        }

        writer.Commit();
    }

    private void SaveStates(string path)
    {
        using SafetensorsWriter writer = SafetensorsWriter.Create(path, trainer.Optimizer.Specs());
        foreach ((string name, Tensor values) in trainer.Optimizer.Save())
        {
            writer.Append(name, values);
            values.Dispose();
        }

        writer.Commit();
    }

    private void LoadParameters(string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        AdapterFile.Check(file, trainer.Parameters.All.Select(parameter => new Models.TensorSpec(parameter.Name, parameter.Shape)));
        foreach (Parameter parameter in trainer.Parameters.All)
        {
            using Tensor rows = file.Load(parameter.Name);
            ParameterRows.Write(trainer.Backend, parameter, rows, parameter.Values);
            parameter.Publish?.Invoke();
        }
    }

    /// <summary>Everything that a resumed training must have in common with the one that saved.</summary>
    private Dictionary<string, string> Fingerprint()
    {
        TrainerSettings t = options.Trainer;
        return new Dictionary<string, string>
        {
            ["method"] = options.Method,
            ["base"] = Base(),
            ["labels"] = string.Join(',', options.Labels ?? []),
            ["data"] = trainer.Source.Fingerprint,
            ["eval_data"] = options.EvalData is { } held && Path.Exists(held) ? Hash(held) : $"{options.EvalData}",
            ["eval_split"] = options.EvalSplit ?? string.Empty,
            ["quantization"] = $"{options.Quantization}",
            ["lambda_warmup_ratio"] = $"{options.QuantizedTraining?.WarmupRatio:R}",
            ["weights"] = $"{options.WeightDtype}",
            ["virtual_tokens"] = $"{options.VirtualTokens}",
            ["use_dora"] = $"{options.LowRank.UseDora}",
            ["use_rslora"] = $"{options.Lora.UseRsLora}",
            ["init"] = options.FromScratch ? "from_scratch" : $"{options.Lora.Init}",
            ["loraplus_ratio"] = $"{options.Lora.RateRatio:R}",
            ["packing"] = $"{t.Packing}",
            ["eval_steps"] = $"{t.EvalSteps}",
            ["early_stopping"] = $"{t.EarlyStopping}",
            ["rank"] = $"{options.Lora.Rank}",
            ["alpha"] = $"{options.Lora.Alpha:R}",
            ["dropout"] = $"{options.Lora.Dropout:R}",
            ["target_modules"] = string.Join(',', options.Lora.TargetModules),
            ["exclude_modules"] = string.Join(',', options.Lora.ExcludeModules),
            ["rank_pattern"] = string.Join(',', options.Lora.RankPattern.Select(item => $"{item.Key}={item.Value}")),
            ["alpha_pattern"] = string.Join(',', options.Lora.AlphaPattern.Select(item => $"{item.Key}={item.Value:R}")),
            ["batch_size"] = $"{t.BatchSize}",
            ["grad_accumulation_steps"] = $"{t.GradAccumulationSteps}",
            ["max_seq_length"] = $"{t.MaxSeqLength}",
            ["learning_rate"] = $"{t.LearningRate:R}",
            ["schedule"] = t.Schedule == ScheduleKind.WarmupStableDecay ? $"{t.Schedule} {t.DecayRatio:R}" : $"{t.Schedule}",
            ["warmup_ratio"] = $"{t.WarmupRatio:R}",
            ["warmup_steps"] = $"{t.WarmupSteps}",
            ["optimizer"] = $"{t.Optimizer with { Paged = false }}",
            ["max_grad_norm"] = $"{t.MaxGradNorm:R}",
            ["device"] = trainer.Backend.Name,
            // Where intermediates are BF16, checkpointing rounds what blocks start from: other numbers than without it. In F32 it changes nothing.
            ["activations"] = trainer.Backend.Computes(DType.BF16) && t.GradientCheckpointing ? "BF16, checkpointed" : $"{options.Activations}",
            ["seed"] = $"{t.Seed}",
            ["steps"] = $"{trainer.Steps}",
        };
    }

    // Not by its path: a model may move. Of a training from scratch only the config counts.
    private string Base()
    {
        List<string> parts = [ModelConfig.Open(options.Model).Root.Element.GetRawText()];
        if (!options.FromScratch)
        {
            using HfFolder folder = HfFolder.Open(options.Model);
            string repair = Path.Combine(options.Model, RepairFolder.Name);
            parts.AddRange(folder.Shards.Select(shard => shard.Path).Concat(Directory.Exists(repair) ? Directory.EnumerateFiles(repair).Order(StringComparer.Ordinal) : []).Select(FileSample.Of));
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', parts))));
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
            return string.Join('+', Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(Hash));
        }

        using FileStream stream = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }
}

/// <summary>What a checkpoint remembers beside its tensors.</summary>
internal sealed record TrainStateDocument(
    int GlobalStep, int MaxSteps, StreamPosition? Position, Dictionary<string, string> Settings, List<StepReport> Steps, List<EvaluationReport> Evaluations);
