namespace Nibble.Models;

/// <summary>The sizes of the first LLaMA models: the built-in scaling table, for questions asked before anything is downloaded.</summary>
public static class KnownModels
{
    /// <summary>7B, 13B, 30B and 65B.</summary>
    public static IReadOnlyList<(string Name, ModelDimensions Dimensions)> Llama { get; } =
    [
        ("7B", Create(4096, 11008, 32, 32)),
        ("13B", Create(5120, 13824, 40, 40)),
        ("30B", Create(6656, 17920, 60, 52)),
        ("65B", Create(8192, 22016, 80, 64)),
    ];

    private static ModelDimensions Create(int hidden, int intermediate, int layers, int heads) => new()
    {
        ModelType = "llama",
        Family = ModelFamily.Llama,
        Vocabulary = 32000,
        Context = 2048,
        Hidden = hidden,
        Intermediate = intermediate,
        Layers = layers,
        Heads = heads,
        KvHeads = heads,
        HeadDim = hidden / heads,
    };
}
