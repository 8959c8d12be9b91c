using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Data;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

public class TrainerTests
{
    private static readonly LoraSettings Lora = new() { Rank = 4, Alpha = 8, TargetModules = [TargetModules.AllLinear] };

    [Fact]
    public void AccumulatedBatchesEqualOneLargeBatch()
    {
        float[] whole = AfterSteps(new TrainerSettings { BatchSize = 4, MaxSteps = 3 }), parts = AfterSteps(new TrainerSettings { BatchSize = 1, GradAccumulationSteps = 4, MaxSteps = 3 });
        Assert.Equal(whole.Length, parts.Length);
        Assert.All(whole.Zip(parts), pair => Assert.Equal(pair.First, pair.Second, 2e-5f));
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("llama")]
    public void PackedTextsEqualRowsOfTheirOwn(string model)
    {
        using GoldenTraining golden = new(model, new CpuBackend(new CpuOptions(2)));
        Random random = new(5);
        TrainingRow[] rows = [.. new[] { 5, 9, 3, 12, 4, 7 }.Select(length =>
        {
            int[] ids = [.. Enumerable.Range(0, length + 1).Select(_ => random.Next(96))];
            return new TrainingRow(ids[..^1], ids[1..]);
        })];
        TrainingSet packed = RowPacker.Pack(new TrainingSet(rows, rows.Length), 24);
        Assert.Equal(2, packed.Rows.Count);
        Assert.Equal(rows.Sum(row => row.Ids.Length), packed.Rows.Sum(row => row.Ids.Length));
        (double loss, float[] gradients) separate = Gradients(golden, rows), together = Gradients(golden, packed.Rows);
        Assert.Equal(separate.loss, together.loss, 1e-4);
        double largest = separate.gradients.Max(Math.Abs);
        Assert.All(separate.gradients.Zip(together.gradients), pair => Assert.Equal(pair.First, pair.Second, 1e-5 * largest));
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("llama")]
    public void LogitsOfAFewPositionsAtATimeEqualAllAtOnce(string model)
    {
        using GoldenTraining golden = new(model, new CpuBackend(new CpuOptions(2)));
        TrainingRow[] rows = [.. Enumerable.Range(0, 3).Select(row => new TrainingRow([.. Enumerable.Range(row, 11)], [.. Enumerable.Range(row + 1, 11).Select(id => id % 4 == 0 ? -1 : id)]))];
        (double loss, float[] gradients) all = Gradients(golden, rows);
        double largest = all.gradients.Max(Math.Abs);
        // One position; seven, with a rest of five.
        foreach (int positions in (int[])[1, 7])
        {
            (double loss, float[] gradients) some = Gradients(golden, rows, positions * golden.Model.Facts.Vocabulary * sizeof(float));
            Assert.Equal(all.loss, some.loss, 1e-4);
            Assert.All(all.gradients.Zip(some.gradients), pair => Assert.Equal(pair.First, pair.Second, 1e-6 * largest));
        }
    }

    private static (double Loss, float[] Gradients) Gradients(GoldenTraining golden, IReadOnlyList<TrainingRow> rows, int logitBytes = 32 << 20)
    {
        using ParameterSet parameters = golden.AllParameters();
        using TrainingPass pass = new(golden.Model, parameters) { LogitBytes = logitBytes };
        double loss = pass.Run(Batcher.Pad(rows), 1);
        return (loss, [.. parameters.All.SelectMany(parameter => golden.Logical(parameter, parameter.Gradient))]);
    }

    [Fact]
    public void NumbersDependOnNeitherThreadsNorCheckpointing()
    {
        LoraSettings dropout = Lora with { Dropout = 0.3 };
        TrainerSettings settings = new() { BatchSize = 3, MaxSteps = 3 };
        float[] expected = AfterSteps(settings, dropout, threads: 1);
        Assert.Equal(expected, AfterSteps(settings, dropout, threads: 2));
        Assert.Equal(expected, AfterSteps(settings with { GradientCheckpointing = true }, dropout, threads: 2));
        Assert.NotEqual(expected, AfterSteps(settings with { Seed = 1 }, dropout, threads: 1));
    }

    [Fact]
    public void EveryStepOfSixtyIsAPlaceToGoOnFrom()
    {
        // If one step from any saved state gives the next state bit for bit, a training killed anywhere ends where it would have.
        TrainerSettings settings = new() { BatchSize = 3, MaxSteps = 60, Optimizer = new OptimizerSettings { WeightDecay = 0.01f } };
        LoraSettings dropout = Lora with { Dropout = 0.2 };
        using Run whole = new(settings, dropout, threads: 1);
        List<State> states = [State.Of(whole)];
        for (int step = 0; step < 60; step++)
        {
            whole.Trainer.RunStep();
            states.Add(State.Of(whole));
        }

        for (int step = 0; step < 60; step++)
        {
            using Run resumed = new(settings, dropout, threads: 1 + (step % 2));
            states[step].Restore(resumed);
            resumed.Trainer.RunStep();
            Assert.True(states[step + 1].Equals(State.Of(resumed)), $"step {step + 1}");
        }
    }

    [Fact]
    public void ALossThatIsNoNumberStopsBeforeTheStep()
    {
        using Run run = new(new TrainerSettings { BatchSize = 2, MaxSteps = 50, LearningRate = 1e30, MaxGradNorm = 0, WarmupRatio = 0 }, Lora);
        NibbleException error = Assert.Throws<NibbleException>(() => run.Trainer.Run());
        Assert.Contains("rows", error.Message, StringComparison.Ordinal);
        Assert.Contains("--learning-rate", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void GradientsThatAreAllZeroStopWithTheReason()
    {
        using Run run = new(new TrainerSettings { BatchSize = 2, MaxSteps = 5 }, Lora);
        // B·A is zero, and so are the gradients of both.
        foreach (Parameter parameter in run.Parameters.All)
        {
            parameter.Values.HostSpan<float>().Clear();
        }

        NibbleException error = Assert.Throws<NibbleException>(() => run.Trainer.Run());
        Assert.Contains($"gradients of all {run.Parameters.All.Count} trained tensors are zero", error.Message, StringComparison.Ordinal);
        Assert.Contains(run.Parameters.All[0].Name, error.Message, StringComparison.Ordinal);
        Assert.Contains("every trained tensor is zero", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SchedulesRiseAndFall()
    {
        TrainerSettings settings = new() { LearningRate = 1, WarmupRatio = 0.1 };
        Assert.Equal(0.1, settings.LearningRateAt(0, 100), 1e-12);
        Assert.Equal(1, settings.LearningRateAt(9, 100), 1e-12);
        Assert.Equal(0.5, settings.LearningRateAt(55, 100), 1e-12);
        Assert.Equal(0.5, (settings with { Schedule = ScheduleKind.Linear }).LearningRateAt(55, 100), 1e-12);
        Assert.Equal(1, (settings with { Schedule = ScheduleKind.Constant }).LearningRateAt(99, 100), 1e-12);
        TrainerSettings stable = settings with { Schedule = ScheduleKind.WarmupStableDecay, DecayRatio = 0.4 };
        Assert.Equal([0.1, 1, 1, 1, 0.5, 1.0 / 40], new[] { 0, 9, 30, 60, 80, 99 }.Select(step => Math.Round(stable.LearningRateAt(step, 100), 12)));
    }

    [Fact]
    public void EveryRowComesOnceAnEpochInAnOrderOfItsOwn()
    {
        TrainingRow[] rows = [.. Enumerable.Range(0, 23).Select(i => new TrainingRow([i], [i]))];
        Batcher batcher = new(new TrainingSet(rows, 23), 2, 3, 7), again = new(new TrainingSet(rows, 23), 2, 3, 7);
        int[] first = [.. Enumerable.Range(0, batcher.StepsPerEpoch).SelectMany(batcher.RowsOf)], second = [.. Enumerable.Range(4, 4).SelectMany(batcher.RowsOf)];
        Assert.Equal(Enumerable.Range(0, 23), first.Order());
        Assert.Equal(Enumerable.Range(0, 23), second.Order());
        Assert.NotEqual(first, second);
        Assert.Equal(batcher.RowsOf(6), again.RowsOf(6));
    }

    private static float[] AfterSteps(TrainerSettings settings, LoraSettings? lora = null, int threads = 2)
    {
        using Run run = new(settings, lora ?? Lora, threads);
        run.Trainer.Run();
        return [.. run.Parameters.All.SelectMany(parameter => parameter.Values.HostSpan<float>().ToArray())];
    }

    /// <summary>What a checkpoint holds, in memory.</summary>
    private sealed record State(int Step, float[] Values, (string Name, float[] Numbers)[] Moments)
    {
        public static State Of(Run run) => new(
            run.Trainer.Step,
            [.. run.Parameters.All.SelectMany(parameter => parameter.Values.HostSpan<float>().ToArray())],
            [.. run.Trainer.Optimizer.Save().Select(item => (item.Name, item.Values.HostSpan<float>().ToArray()))]);

        public void Restore(Run run)
        {
            int done = 0;
            foreach (Parameter parameter in run.Parameters.All)
            {
                Span<float> values = parameter.Values.HostSpan<float>();
                Values.AsSpan(done, values.Length).CopyTo(values);
                done += values.Length;
            }

            using TempFolder folder = new();
            Safetensors.Save(folder["states"], [.. Moments.Zip(run.Trainer.Optimizer.Save(), (saved, now) => (saved.Name, Tensor.From<float>(now.Values.Shape, DType.F32, saved.Numbers)))]);
            using SafetensorsFile file = SafetensorsFile.Open(folder["states"]);
            run.Trainer.Optimizer.Load(file);
            run.Trainer.Optimizer.Steps = Step;
        }

        public bool Equals(State? other) => other is not null && Step == other.Step && Values.SequenceEqual(other.Values)
            && Moments.Zip(other.Moments).All(pair => pair.First.Name == pair.Second.Name && pair.First.Numbers.SequenceEqual(pair.Second.Numbers));

        public override int GetHashCode() => Step;
    }

    /// <summary>A training of an adapter on the golden LLaMA, with rows of several lengths.</summary>
    private sealed class Run : IDisposable
    {
        private readonly GoldenTraining _golden;
        private readonly LoraAdapter _adapter;

        public Run(TrainerSettings settings, LoraSettings lora, int threads = 2)
        {
            _golden = new GoldenTraining("llama", new CpuBackend(new CpuOptions(threads)));
            _adapter = LoraAdapter.Create(_golden.Model, _golden.Architecture.Linears(_golden.Config), lora, 3);
            _adapter.Attach(_golden.Model);
            _adapter.AddTo(Parameters);
            Random random = new(5);
            TrainingRow[] rows = [.. Enumerable.Range(5, 12).Select(length =>
            {
                int[] ids = [.. Enumerable.Range(0, length + 1).Select(_ => random.Next(96))];
                return new TrainingRow(ids[..^1], [.. ids[1..].Select((id, i) => i < 2 ? -1 : id)]);
            })];
            Trainer = new Trainer(_golden.Model, Parameters, new TrainingSet(rows, rows.Length), settings);
        }

        public ParameterSet Parameters { get; } = new();

        public Trainer Trainer { get; }

        public void Dispose()
        {
            Trainer.Dispose();
            Parameters.Dispose();
            _golden.Dispose();
            _adapter.Dispose();
        }
    }
}
