using Nibble.Backends;

namespace Nibble.Quantization.Calibration;

/// <summary>Remembers finished blocks of a calibration, so that interrupted work goes on behind the last of them.</summary>
public interface IBlockJournal
{
    /// <summary>The packed weights of a block that an earlier run finished, by path; null if it has to be quantized.</summary>
    Func<string, IPackedWeight>? Restore(int block);

    /// <summary>All layers of a block have been quantized.</summary>
    void Finished(int block);
}
