using Nibble.Formats;
using Nibble.Models;
using Nibble.Quantization;
using Nibble.Quantization.Awq;
using Nibble.Quantization.Calibration;
using Nibble.Tensors;

namespace Nibble.Tests.Quantization;

public class InputScalingTests
{
    private static readonly int[][] Samples = [.. Enumerable.Range(0, 4).Select(i => Enumerable.Range(0, 12).Select(j => ((i * 31) + (j * 7) + 1) % 96).ToArray())];

    [Theory]
    [InlineData("gpt2", 3)]
    [InlineData("llama", 4)]
    [InlineData("llama-gqa-llama3-tied", 4)]
    [InlineData("llama-biases", 4)]
    [InlineData("qwen3", 4)]
    public void Moving_factors_leaves_the_function_as_it_was(string name, int folds)
    {
        using TempFolder target = new();
        string source = Path.Combine(TestData.Goldens, "models", name);
        (HfFolder folder, QuantPlan plan) = Quantizer.Prepare(source, new PlanRequest(new QuantizationSettings { Method = "awq", Bits = 3, GroupSize = 8 }));
        using (folder)
        {
            using QuantizedFolderWriter writer = new(folder, plan, target.Path);
            using LoadedModel model = LoadedModel.Load(source);
            int[] tokens = Samples[1];
            float[] before = model.LogLikelihoods(tokens);
            InputScaling scaling = new(model.Model, writer, plan);
            using BlockCalibration calibration = new(model.Model, Samples);
            foreach (Block block in model.Model.Blocks)
            {
                scaling.Prepare(calibration, block);
            }

            Assert.Equal(folds * model.Model.Blocks.Count, scaling.Records!.Count(record => record.Skipped is null));
            Assert.Contains(scaling.Records!, record => record.ErrorShare < 1);
            Assert.All(before.Zip(model.LogLikelihoods(tokens)), pair => Assert.Equal(pair.First, pair.Second, 2e-4f));
        }
    }

    [Theory]
    [InlineData("gpt2", 4)]
    [InlineData("llama-gqa-llama3-tied", 3)]
    public void What_is_saved_computes_what_calibration_left_bit_for_bit(string name, int bits)
    {
        using TempFolder target = new();
        string source = Path.Combine(TestData.Goldens, "models", name);
        (HfFolder folder, QuantPlan plan) = Quantizer.Prepare(source, new PlanRequest(new QuantizationSettings { Method = "awq", Bits = bits, GroupSize = 8 }));
        Dictionary<string, PlannedTensor> planned = plan.Tensors.ToDictionary(tensor => tensor.Spec.Path);
        using (folder)
        {
            using LoadedModel model = LoadedModel.Load(source);
            using (QuantizedFolderWriter writer = new(folder, plan, target.Path))
            {
                InputScaling scaling = new(model.Model, writer, plan);
                using BlockCalibration calibration = new(model.Model, Samples);
                calibration.BeforeBlock = block => scaling.Prepare(calibration, block);
                foreach (PlannedTensor kept in plan.Tensors.Where(tensor => tensor.Settings is null))
                {
                    writer.Keep(kept);
                }

                calibration.Run((path, statistics) =>
                {
                    PlannedTensor tensor = planned[path];
                    using Tensor dense = scaling.Load(tensor.Spec);
                    using QuantizedWeight weight = Registry.Method("awq").Quantize(path, dense, tensor.Settings!, statistics);
                    writer.Add(tensor, dense, weight);
                    return WeightPacking.Pack(weight, tensor.Spec, model.Backend, ActivationChoice.F32);
                });
                writer.Finish(scaling: scaling.Records);
            }

            using LoadedModel saved = LoadedModel.Load(target.Path);
            Assert.Equal(model.LogLikelihoods(Samples[0]), saved.LogLikelihoods(Samples[0]));
        }
    }
}
