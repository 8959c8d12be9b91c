using Nibble.Runs;

namespace Nibble.Tests.Runs;

/// <summary>What lists call runs.</summary>
public class RunNameTests
{
    [Theory]
    [InlineData("rtn", """{"bits": 4, "settings": {"group_size": 64, "symmetric": false}}""", "rtn 4 bit, group 64")]
    [InlineData("rtn", """{"bits": 8, "settings": {"group_size": -1}}""", "rtn 8 bit, whole rows")]
    [InlineData("nf4", """{"bits": 4, "settings": {"block_size": 64, "double_quant": false}}""", "nf4")]
    [InlineData("nf4", """{"bits": 4, "settings": {"block_size": 64, "double_quant": true}}""", "nf4 + double quantization")]
    [InlineData("gptq", """{"bits": 3, "label": "GPTQ 3 bit", "settings": {"group_size": 64}}""", "GPTQ 3 bit")]
    [InlineData("lora", """{"settings": {"rank": 8}}""", "lora")]
    [InlineData("none", """{"bits": 16, "settings": {}}""", "none")]
    [InlineData("none", "[1]", "none")]
    [InlineData("none", "no json", "none")]
    public void TellsQuantizationsApart(string method, string configuration, string expected) =>
        Assert.Equal(expected, RunName.Of(new RunRecord(1, "eval", "2026-01-01T00:00:00Z", null, "finished", "m", method, configuration, "{}", null, null, null, null, null)));
}
