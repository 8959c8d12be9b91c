using Nibble.Backends;
using Nibble.Backends.Cpu;
using Nibble.Data;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>
/// Gradients of whole adapted models against differences of the loss that the same model gives without a tape: the two ways through
/// the model must agree, too.
/// </summary>
public class AdapterGradientTests
{
    private const float Step = 1e-2f;

    public static TheoryData<string, string> Cases
    {
        get
        {
            TheoryData<string, string> cases = [];
            foreach (string model in new[] { "gpt2", "llama" })
            {
                foreach (string kind in new[] { "lora", "dora", "ia3", "prefix", "prompt" })
                {
                    cases.Add(model, kind);
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void GradientsOfAdaptersAreThoseOfTheLoss(string model, string kind)
    {
        using CpuBackend backend = new(new CpuOptions(Threads: 2));
        using GoldenTraining golden = new(model, backend);
        using PeftAdapter adapter = Create(golden, kind);
        using ParameterSet parameters = new();
        adapter.Attach(golden.Model);
        adapter.AddTo(parameters);
        Spread(backend, parameters);
        adapter.Refresh();
        TrainingSet set = Rows();
        using TrainingPass pass = new(golden.Model, parameters, checkpoint: kind is "prefix", adapter.Prompt);
        double expected = HeldOut.Nll(golden.Model, set);
        double loss = pass.Run(Batcher.Pad(set.Rows), 1f / set.ScoredTokens) / set.ScoredTokens;
        Assert.Equal(expected, loss, 1e-4);
        Random random = new(3);
        foreach (Parameter parameter in parameters.All)
        {
            Compare(golden.Model, parameter, set, random, kind == "prompt" ? adapter : null);
        }
    }

    private static void Compare(CausalModel model, Parameter parameter, TrainingSet set, Random random, PeftAdapter? refreshed)
    {
        float[] gradient = ParameterRows.Read(model.Backend, parameter, parameter.Gradient).HostSpan<float>().ToArray();
        using Tensor values = ParameterRows.Read(model.Backend, parameter, parameter.Values);
        double At(int place, float value)
        {
            float before = values.HostSpan<float>()[place];
            values.HostSpan<float>()[place] = value;
            ParameterRows.Write(model.Backend, parameter, values, parameter.Values);
            values.HostSpan<float>()[place] = before;
            // A prompt's keys and values are kept; the norms of DoRA stay as they were, because no gradient flows through them.
            refreshed?.Refresh();
            return HeldOut.Nll(model, set);
        }

        double largest = gradient.Max(Math.Abs);
        for (int sample = 0; sample < 3; sample++)
        {
            int place = random.Next(gradient.Length);
            float middle = values.HostSpan<float>()[place];
            double expected = (At(place, middle + Step) - At(place, middle - Step)) / (2 * Step);
            Assert.True(
                Math.Abs(expected - gradient[place]) <= (0.02 * Math.Abs(expected)) + (0.03 * largest) + 2e-4,
                $"{parameter.Name}[{place}]: tape {gradient[place]}, differences {expected}, largest {largest}");
        }

        ParameterRows.Write(model.Backend, parameter, values, parameter.Values);
        refreshed?.Refresh();
    }

    private static PeftAdapter Create(GoldenTraining golden, string kind)
    {
        IReadOnlyList<LinearSpec> linears = golden.Architecture.Linears(golden.Config);
        return kind switch
        {
            "ia3" => Ia3Adapter.Create(golden.Model, linears, new Ia3Settings()),
            "prefix" => PrefixAdapter.Create(golden.Model, 3, null, 1),
            "prompt" => PromptAdapter.Create(golden.Model, 3, null, 1),
            _ => LoraAdapter.Create(golden.Model, linears, new LoraSettings { Rank = 3, UseDora = kind == "dora", TargetModules = [TargetModules.AllLinear] }, 1),
        };
    }

    /// <summary>Moves everything away from the start, where B is zero and factors are one.</summary>
    private static void Spread(IBackend backend, ParameterSet parameters)
    {
        Random random = new(11);
        foreach (Parameter parameter in parameters.All)
        {
            using Tensor values = ParameterRows.Read(backend, parameter, parameter.Values);
            foreach (ref float value in values.HostSpan<float>())
            {
                value += (float)((random.NextDouble() - 0.5) * 0.2);
            }

            ParameterRows.Write(backend, parameter, values, parameter.Values);
        }
    }

    private static TrainingSet Rows()
    {
        Random random = new(5);
        TrainingRow[] rows = [.. new[] { 9, 6, 9 }.Select(length =>
        {
            int[] ids = [.. Enumerable.Range(0, length + 1).Select(_ => random.Next(96))];
            return new TrainingRow(ids[..^1], ids[1..]);
        })];
        return new TrainingSet(rows, rows.Length);
    }
}
