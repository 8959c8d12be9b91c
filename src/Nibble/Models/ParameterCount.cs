namespace Nibble.Models;

/// <summary>Parameters of a model by what they are for, counted from its sizes; a tied matrix counts once.</summary>
/// <param name="Embedding">Token embedding.</param>
/// <param name="Positions">Learned positions.</param>
/// <param name="BlockLinears">Matrices of all blocks, without biases: what quantization shrinks.</param>
/// <param name="BlockRest">Biases and norms of all blocks.</param>
/// <param name="FinalNorm">The norm after the last block.</param>
/// <param name="Head">Output or classification head; 0 if tied.</param>
public sealed record ParameterCount(long Embedding, long Positions, long BlockLinears, long BlockRest, long FinalNorm, long Head)
{
    /// <summary>All parameters.</summary>
    public long Total => Embedding + Positions + BlockLinears + BlockRest + FinalNorm + Head;

    /// <summary>Counts a model.</summary>
    public static ParameterCount Of(ModelDimensions d)
    {
        bool gpt2 = d.Family == ModelFamily.Gpt2;
        long linears = Linears(d);
        return new ParameterCount(
            Embedding: (long)d.Vocabulary * d.Hidden,
            Positions: gpt2 ? (long)d.Context * d.Hidden : 0,
            BlockLinears: linears * d.Layers,
            BlockRest: (long)(Block(d) - linears) * d.Layers,
            FinalNorm: gpt2 ? 2L * d.Hidden : d.Hidden,
            Head: HeadSize(d));
    }

    /// <summary>Parameters that adapters of rank <paramref name="rank"/> add to one matrix: <c>[rank, in]</c> and <c>[out, rank]</c>.</summary>
    public static long Lora(LinearSpec spec, int rank) => rank * ((long)spec.In + spec.Out);

    /// <summary>Parameters of one block.</summary>
    internal static Int128 Block(ModelDimensions d)
    {
        long biases = d.BlockLinears().Where(spec => spec.HasBias).Sum(spec => (long)spec.Out);
        long norms = d.Family == ModelFamily.Gpt2 ? 4L * d.Hidden : 2L * d.Hidden;
        norms += d.QkNorm ? 2L * d.HeadDim : 0;
        norms += d.SubNorms ? d.QueryWidth + d.Intermediate : 0;
        return (Int128)Linears(d) + biases + norms;
    }

    private static long Linears(ModelDimensions d) => d.BlockLinears().Sum(spec => (long)spec.Out * spec.In);

    private static long HeadSize(ModelDimensions d)
    {
        if (d.Labels > 0)
        {
            return (long)d.Labels * d.Hidden;
        }

        return (d.Tied ? 0 : (long)d.Vocabulary * d.Hidden) + (d.HeadBias ? d.Vocabulary : 0);
    }
}
