using Nibble.Formats;
using Nibble.IO;

namespace Nibble.Models;

/// <summary>Which source serves a folder and the options of a load.</summary>
internal static class WeightSources
{
    public static IWeightSource Open(HfFolder folder, LoadOptions options)
    {
        IArchitecture architecture = Registry.Architecture(folder.Config);
        if (folder.Config.QuantMethod is { } layout)
        {
            Throw.BadInput($"{folder.Path}: quant_method '{layout}' is not supported", "only dense models are", "use the dense form of the model");
        }

        return new DenseWeightSource(folder, architecture, options.Dtype);
    }
}
