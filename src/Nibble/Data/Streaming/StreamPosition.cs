namespace Nibble.Data.Streaming;

/// <summary>A place in a stream of rows: enough to go on from there without what came before.</summary>
/// <param name="Epoch">Passes over the data before it.</param>
/// <param name="Unit">Units of the epoch that were read before the window.</param>
/// <param name="Skip">Rows of the file in that unit that came before the window.</param>
/// <param name="Row">Rows of tokens that were taken from the window.</param>
/// <param name="Given">Rows of tokens that were taken in all.</param>
internal sealed record StreamPosition(int Epoch, int Unit, long Skip, int Row, long Given)
{
    /// <summary>The beginning.</summary>
    public static StreamPosition Start { get; } = new(0, 0, 0, 0, 0);
}
