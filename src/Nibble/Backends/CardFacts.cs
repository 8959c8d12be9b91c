using Nibble.Backends.Cuda.Driver;

namespace Nibble.Backends;

/// <summary>A card that kernels can run on.</summary>
/// <param name="Device">Name of the device on the command line.</param>
/// <param name="Processor">The card's name.</param>
/// <param name="Multiprocessors">Its multiprocessors.</param>
/// <param name="MemoryBytes">Its memory.</param>
/// <param name="InstructionSets">Its architecture.</param>
public sealed record CardFacts(string Device, string Processor, int Multiprocessors, long MemoryBytes, IReadOnlyList<string> InstructionSets)
{
    /// <summary>The cards of this machine; none where there is no driver.</summary>
    public static IReadOnlyList<CardFacts> All() =>
        [.. CudaCards.All().Select((card, number) => new CardFacts($"cuda:{number}", card.Name, card.Multiprocessors, card.MemoryBytes, [card.Architecture]))];
}
