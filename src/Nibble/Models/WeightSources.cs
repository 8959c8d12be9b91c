using Nibble.Formats;
using Nibble.IO;
using Nibble.Quantization;
using Nibble.Tensors;

namespace Nibble.Models;

/// <summary>Which source serves a folder and the options of a load.</summary>
internal static class WeightSources
{
    public static IWeightSource Open(HfFolder folder, LoadOptions options) =>
        options.FromScratch ? new FreshWeightSource(folder.Config, Registry.Architecture(folder.Config), options.Dtype ?? DType.F32, options.Seed)
        : options.Trainable ? new FloatWeightSource(Stored(folder, options), options.Dtype ?? DType.F32) : Stored(folder, options);

    private static IWeightSource Stored(HfFolder folder, LoadOptions options)
    {
        IArchitecture architecture = Registry.Architecture(folder.Config);
        if (folder.Config.QuantMethod is { } present)
        {
            if (options.Quantization is not null)
            {
                Throw.BadInput($"{folder.Path} is quantized already ({present})", "quantizing codes again would add a second error", "give the dense model it was made from");
            }

            return new QuantizedWeightSource(folder, architecture, options.Dtype, options.Activations);
        }

        if (options.Quantization is { } request)
        {
            return new LoadTimeQuantizer(folder, architecture, QuantPlan.Create(folder.Config, request), options.Dtype, options.Activations);
        }

        return new DenseWeightSource(folder, architecture, options.Trainable ? options.Dtype ?? DType.F32 : options.Dtype);
    }
}
