using Nibble.Evaluation.Protocols;
using Nibble.IO;

namespace Nibble.Tests.Evaluation;

/// <summary>Which token is scored in which window: worked examples, and what holds for every length.</summary>
public class ProtocolTests
{
    private static (int Start, int Length, int First)[] Windows(Protocol protocol, int length) =>
        [.. protocol.Windows(length).Select(window => (window.Start, window.Length, window.FirstTarget))];

    // Tokens 0 … 9, windows of 4 every 2: 0-3 scores 1, 2, 3; then each scores its last two.
    [Fact]
    public void Window_of_four_every_two() => Assert.Equal([(0, 4, 1), (2, 4, 2), (4, 4, 2), (6, 4, 2)], Windows(new WindowProtocol(4, 2), 10));

    // The last window is shorter, as in transformers' documentation: 6-8 scores 8 alone.
    [Fact]
    public void Window_ends_with_the_text() => Assert.Equal([(0, 4, 1), (2, 4, 2), (4, 4, 2), (6, 3, 2)], Windows(new WindowProtocol(4, 2), 9));

    [Fact]
    public void Window_longer_than_the_text() => Assert.Equal([(0, 3, 1)], Windows(new WindowProtocol(8, 4), 3));

    [Fact]
    public void Windows_that_do_not_overlap_leave_out_their_first_tokens()
    {
        Assert.Equal([(0, 4, 1), (4, 4, 1), (8, 2, 1)], Windows(new WindowProtocol(4, 4), 10));
        Assert.Equal([(0, 4, 1), (4, 4, 1)], Windows(new WindowProtocol(4, 4), 9));
    }

    // 10 tokens: two whole blocks of 4, tokens 8 and 9 are dropped; each block scores 3.
    [Fact]
    public void Blocks_of_four() => Assert.Equal([(0, 4, 1), (4, 4, 1)], Windows(new BlocksProtocol(4), 10));

    // Blocks of 8: predictions at positions 4, 5, 6 count, that is tokens 5, 6, 7: 8/2 − 1 = 3 of each block.
    [Fact]
    public void Half_of_eight() => Assert.Equal([(0, 8, 5), (8, 8, 5)], Windows(new HalfProtocol(8), 17));

    [Fact]
    public void Lines_slide_only_where_a_line_is_longer_than_a_window()
    {
        Assert.Equal([(0, 3, 1)], Windows(new LinesProtocol(4, 2), 3));
        Assert.Equal([(0, 4, 1), (2, 3, 2)], Windows(new LinesProtocol(4, 2), 5));
        Assert.Empty(Windows(new LinesProtocol(4, 2), 1));
    }

    [Fact]
    public void Examples_are_cut() => Assert.Equal([(0, 5, 1)], Windows(new ExamplesProtocol(5), 12));

    [Theory]
    [InlineData("window", TextJoin.Hf, "window-1024-512-hf")]
    [InlineData("window", TextJoin.Raw, "window-1024-512-raw")]
    [InlineData("blocks", TextJoin.Hf, "blocks-2048-hf")]
    [InlineData("half", TextJoin.Raw, "half-512-raw")]
    [InlineData("lines", TextJoin.Hf, "lines-1024-512")]
    [InlineData("examples", TextJoin.Raw, "examples-1024")]
    public void Ids_of_the_defaults(string name, TextJoin join, string id) => Assert.Equal(id, Protocol.Create(name, null, null, 4096).Id(join));

    [Fact]
    public void A_short_context_makes_a_small_window() => Assert.Equal("window-256-128-raw", Protocol.Create("window", null, null, 256).Id(TextJoin.Raw));

    [Theory]
    [InlineData("window", 1, null)]
    [InlineData("window", 600, null)]
    [InlineData("window", 512, 600)]
    [InlineData("window", 512, 0)]
    [InlineData("blocks", 512, 256)]
    [InlineData("nonsense", 512, null)]
    public void Sizes_that_make_no_sense_are_refused(string name, int window, int? stride) =>
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => Protocol.Create(name, window, stride, 512)).Kind);

    [Fact]
    public void Every_token_but_the_first_is_scored_once_with_enough_before_it()
    {
        foreach ((int size, int stride) in new[] { (2, 1), (4, 1), (4, 3), (7, 2), (8, 4), (16, 5) })
        {
            for (int length = 0; length < 60; length++)
            {
                int[] times = new int[length];
                foreach (ScoringWindow window in new WindowProtocol(size, stride).Windows(length))
                {
                    for (int i = window.FirstTarget; i < window.Length; i++)
                    {
                        times[window.Start + i]++;
                        Assert.True(i >= Math.Min(window.Start + i, size - stride), $"{size}/{stride}, length {length}: token {window.Start + i} has {i} before it");
                    }
                }

                Assert.All(times.Skip(1), count => Assert.Equal(1, count));
            }
        }
    }
}
