using Nibble.Hub;
using Nibble.IO;

namespace Nibble.Tests.Hub;

/// <summary>Which files of a model are downloaded, and which file a name means.</summary>
public sealed class HubSelectionTests
{
    [Theory]
    [InlineData("the one file, nothing that is not read",
        "config.json model.safetensors pytorch_model.bin tf_model.h5 onnx/model.onnx modeling_x.py tokenizer.json merges.txt vocab.json LICENSE README.md flax_model.msgpack .gitattributes",
        null, "LICENSE README.md config.json merges.txt model.safetensors tokenizer.json vocab.json")]
    [InlineData("shards of the index, not the same weights again",
        "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json consolidated.safetensors tokenizer.model original/params.json",
        null, "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json tokenizer.model")]
    [InlineData("one variant", "config.json model.safetensors model.fp16.safetensors", null, "config.json model.safetensors")]
    [InlineData("an adapter", "adapter_config.json adapter_model.safetensors README.md", null, "README.md adapter_config.json adapter_model.safetensors")]
    [InlineData("safetensors before GGUF", "config.json model.safetensors model-q4.gguf", null, "config.json model.safetensors")]
    [InlineData("the one GGUF", "model-q4_k_m.gguf README.md", null, "README.md model-q4_k_m.gguf")]
    [InlineData("a part of a name", "m-Q4_K_M.gguf m-Q4_K_S.gguf m-IQ4_K_M.gguf", "q4_k_m", "m-Q4_K_M.gguf")]
    [InlineData("a whole name", "m-Q4_0.gguf m-Q4_0-pure.gguf", "m-Q4_0.gguf", "m-Q4_0.gguf")]
    [InlineData("all parts of a file", "Q8_0/m-Q8_0-00001-of-00002.gguf Q8_0/m-Q8_0-00002-of-00002.gguf m-Q2_K.gguf", "Q8_0", "Q8_0/m-Q8_0-00001-of-00002.gguf Q8_0/m-Q8_0-00002-of-00002.gguf")]
    public void Chooses(string what, string files, string? part, string expected)
    {
        string chosen = string.Join(' ', HubSelection.Choose(Revision(files), part, []).Select(file => file.Path).Order(StringComparer.Ordinal));
        Assert.Equal((what, expected), (what, chosen));
    }

    [Theory]
    [InlineData("config.json pytorch_model.bin", null, ErrorKind.BadInput, "can run any code")]
    [InlineData("config.json README.md", null, ErrorKind.NotFound, "has no weights that Nibble reads")]
    [InlineData("a-Q4_0.gguf a-Q8_0.gguf", null, ErrorKind.Usage, "nibble pull org/name:a-Q4_0.gguf")]
    [InlineData("a-Q4_0.gguf a-Q8_0.gguf", "Q5", ErrorKind.NotFound, "a-Q4_0.gguf, a-Q8_0.gguf")]
    [InlineData("a-Q4_0.gguf b-Q4_0.gguf", "Q4_0", ErrorKind.Usage, "name one of them in full")]
    public void Refuses(string files, string? part, ErrorKind kind, string expected)
    {
        NibbleException error = Assert.Throws<NibbleException>(() => HubSelection.Choose(Revision(files), part, []));
        Assert.Equal(kind, error.Kind);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void PatternsChooseInstead()
    {
        HubRevision revision = Revision("config.json onnx/model.onnx onnx/model.onnx_data model.safetensors");
        Assert.Equal(["onnx/model.onnx", "onnx/model.onnx_data"], HubSelection.Choose(revision, null, ["onnx/*"]).Select(file => file.Path));
        Assert.Contains("onnx/model.onnx", Assert.Throws<NibbleException>(() => HubSelection.Choose(revision, null, ["*.gguf"])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "main", null)]
    [InlineData("gpt2", "gpt2", "main", null)]
    [InlineData("org/name@v1.0", "org/name", "v1.0", null)]
    [InlineData("org/name@refs/pr/1:Q4_K_M", "org/name", "refs/pr/1", "Q4_K_M")]
    [InlineData("org/name:sub/file.gguf", "org/name", "main", "sub/file.gguf")]
    [InlineData("https://huggingface.co/org/name/", "org/name", "main", null)]
    [InlineData("hf://org/name", "org/name", "main", null)]
    public void NamesAreRead(string text, string repository, string revision, string? file) =>
        Assert.Equal(new HubName(repository, revision, file), HubName.Parse(text));

    [Theory]
    [InlineData("")]
    [InlineData("a/b/c")]
    [InlineData("../name")]
    [InlineData("./name")]
    [InlineData("org/na--me")]
    [InlineData("org/a..b")]
    [InlineData("C:\\models\\x")]
    [InlineData("org/name@")]
    [InlineData("org/name@a/../../../b")]
    [InlineData("org/na me")]
    public void WhatIsNoNameIsRefused(string text) => Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(() => HubName.Parse(text)).Kind);

    private static HubRevision Revision(string files) =>
        new("org/name", "org/name", FakeHub.Commit, [.. files.Split(' ').Select(path => new HubFile(path, 5, new string('a', 40), false))]);
}
