namespace Nibble.Tuning;

/// <summary>How gradients become steps.</summary>
public enum OptimizerKind
{
    /// <summary>AdamW with F32 moments.</summary>
    AdamW,

    /// <summary>AdamW whose moments are 8-bit codes in blocks of 256 (arXiv 2110.02861), as bitsandbytes keeps them.</summary>
    AdamW8Bit,

    /// <summary>Stochastic gradient descent, with momentum if there is some.</summary>
    Sgd,

    /// <summary>Muon for the matrices of the blocks: momentum whose matrix is made orthogonal before each step; AdamW for the rest.</summary>
    Muon,
}

/// <summary>Settings of an optimizer.</summary>
public sealed record OptimizerSettings
{
    private readonly float? _momentum;

    /// <summary>Which one.</summary>
    public OptimizerKind Kind { get; init; } = OptimizerKind.AdamW;

    /// <summary>States stand in a file, those of a card in pinned memory of the host, and come into memory one parameter at a time.</summary>
    public bool Paged { get; init; }

    /// <summary>Decay of the mean of gradients.</summary>
    public float Beta1 { get; init; } = 0.9f;

    /// <summary>Decay of the mean of squared gradients.</summary>
    public float Beta2 { get; init; } = 0.999f;

    /// <summary>Added to the root of the second mean.</summary>
    public float Epsilon { get; init; } = 1e-8f;

    /// <summary>Weight decay: decoupled for AdamW and Muon, added to the gradient for SGD.</summary>
    public float WeightDecay { get; init; }

    /// <summary>Momentum of SGD (0.9 if nothing is given) and of Muon (0.95).</summary>
    public float Momentum
    {
        get => _momentum ?? (Kind == OptimizerKind.Muon ? 0.95f : 0.9f);
        init => _momentum = value;
    }
}
