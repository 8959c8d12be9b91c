using Nibble.Formats;

namespace Nibble.Nn;

/// <summary>How fast each pair of a head turns with the position.</summary>
/// <param name="Theta">Base of the frequencies.</param>
/// <param name="Type"><c>default</c>, <c>linear</c> or <c>llama3</c>.</param>
/// <param name="Factor">By how much positions are stretched.</param>
/// <param name="LowFrequencyFactor">llama3: wavelengths above original / this are stretched in full.</param>
/// <param name="HighFrequencyFactor">llama3: wavelengths below original / this stay.</param>
/// <param name="OriginalContext">llama3: the context before stretching.</param>
public sealed record RopeSettings(
    double Theta, string Type = "default", double Factor = 1, double LowFrequencyFactor = 1, double HighFrequencyFactor = 4, int OriginalContext = 8192)
{
    /// <summary>
    /// Reads <c>rope_theta</c> (<paramref name="fallback"/> where there is none) and <c>rope_scaling</c>, or <c>rope_parameters</c> of newer
    /// writers.
    /// </summary>
    public static RopeSettings Read(JsonConfig json, double fallback = 10_000)
    {
        JsonConfig? section = json.Section("rope_parameters") ?? json.Section("rope_scaling");
        double theta = section?.GetDouble("rope_theta", double.NaN, 1) ?? double.NaN;
        theta = double.IsNaN(theta) ? json.GetDouble("rope_theta", fallback, 1) : theta;
        if ((section ?? json).GetDouble("partial_rotary_factor", json.GetDouble("partial_rotary_factor", 1)) != 1)
        {
            (section ?? json).Refuse("partial_rotary_factor", "only models that rotate whole heads are supported");
        }

        if (section is null)
        {
            return new RopeSettings(theta);
        }

        string type = section.GetString("rope_type|type", "default");
        switch (type)
        {
            case "default":
                return new RopeSettings(theta);
            case "linear":
                return new RopeSettings(theta, type, section.GetDouble("factor", null, 1e-6, 1e6));
            case "llama3":
                return ReadLlama3(section, theta);
            default:
                section.Refuse("rope_type|type", "supported are default, linear, llama3", "use a model with one of these position scalings");
                return null;
        }
    }

    /// <summary>Radians that pair j of a head of width <paramref name="dim"/> turns per position, for j &lt; dim / 2.</summary>
    public double[] Frequencies(int dim) =>
        [.. Enumerable.Range(0, dim / 2).Select(j => Scale(1 / Math.Pow(Theta, 2.0 * j / dim)))];

    private double Scale(double frequency)
    {
        if (Type != "llama3")
        {
            return frequency / Factor;
        }

        double wavelength = 2 * Math.PI / frequency;
        if (wavelength > OriginalContext / LowFrequencyFactor)
        {
            return frequency / Factor;
        }

        if (wavelength < OriginalContext / HighFrequencyFactor)
        {
            return frequency;
        }

        double smooth = ((OriginalContext / wavelength) - LowFrequencyFactor) / (HighFrequencyFactor - LowFrequencyFactor);
        return ((1 - smooth) * frequency / Factor) + (smooth * frequency);
    }

    private static RopeSettings ReadLlama3(JsonConfig section, double theta)
    {
        RopeSettings settings = new(
            theta,
            "llama3",
            section.GetDouble("factor", null, 1e-6, 1e6),
            section.GetDouble("low_freq_factor", null, 1e-6, 1e6),
            section.GetDouble("high_freq_factor", null, 1e-6, 1e6),
            section.GetInt("original_max_position_embeddings"));
        if (settings.HighFrequencyFactor <= settings.LowFrequencyFactor)
        {
            section.Refuse("high_freq_factor", $"it must be above low_freq_factor ({settings.LowFrequencyFactor})");
        }

        return settings;
    }
}
