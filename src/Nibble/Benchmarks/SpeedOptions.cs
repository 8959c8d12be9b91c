using Nibble.IO;
using Nibble.Models;
using Nibble.Quantization;

namespace Nibble.Benchmarks;

/// <summary>What <see cref="SpeedBench"/> measures.</summary>
public sealed record SpeedOptions
{
    /// <summary>A model's path; null for random weights of <see cref="Shapes"/>.</summary>
    public string? Model { get; init; }

    /// <summary>A name of <see cref="ModelShapes"/>; null for a model.</summary>
    public string? Shapes { get; init; }

    /// <summary>Quantizations that are measured one after the other; null is the model as it is.</summary>
    public IReadOnlyList<PlanRequest?> Methods { get; init; } = [null];

    /// <summary>Numbers of threads; they take turns in every round.</summary>
    public IReadOnlyList<int> Threads { get; init; } = [Environment.ProcessorCount];

    /// <summary>Tokens of the prompt, from an empty cache; 0 measures no prompt.</summary>
    public int Prompt { get; init; } = 512;

    /// <summary>Tokens that are decoded one by one; 0 measures no decoding.</summary>
    public int Tokens { get; init; } = 64;

    /// <summary>Tokens in the cache before decoding.</summary>
    public int Depth { get; init; }

    /// <summary>Measured rounds, after one that warms up.</summary>
    public int Rounds { get; init; } = 5;

    /// <summary>How the model is loaded; threads and quantization are those above.</summary>
    public LoadOptions Load { get; init; } = new();

    /// <summary>llama-bench and its model, or null.</summary>
    public LlamaBench? Peer { get; init; }

    /// <summary>Its limit is the processor's memory, and its peer runs there.</summary>
    internal void RequireProcessor()
    {
        if (Load.Device is not ("auto" or "cpu"))
        {
            Throw.Usage(
                $"bench measures the processor, not {Load.Device}",
                "what it compares with, a raw read of memory and a peer's program, runs there",
                $"measure a card with: nibble eval MODEL --tasks latency --device {Load.Device}");
        }
    }

    /// <summary>Refuses values that make no sense, for a model of this context.</summary>
    internal void Require(int context)
    {
        if (Prompt < 0 || Tokens < 0 || Depth < 0 || Rounds < 1 || Prompt + Tokens == 0)
        {
            Throw.Usage("there is nothing to measure", $"{Prompt} prompt tokens, {Tokens} decoded ones after {Depth}, {Rounds} rounds", "prompt or decoded tokens, and rounds, must be at least 1");
        }

        if (Math.Max(Prompt, (long)Depth + Tokens) > context)
        {
            Throw.Usage(
                $"{Prompt} prompt tokens, or {Tokens} decoded ones after {Depth}, do not fit",
                $"the model's context is {context:N0} tokens",
                "use fewer --prompt-tokens, --decode-tokens or a smaller --depth");
        }
    }
}
