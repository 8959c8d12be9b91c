using System.Text.Json;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Tensors;

namespace Nibble.Tests.Formats;

public class HfFolderTests
{
    [Fact]
    public void ShardsAreWrittenAndReadBack()
    {
        using TempFolder folder = new();
        Write(folder, maxShardBytes: 40);
        Assert.Equal(
            ["config.json", "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", "model.safetensors.index.json"],
            folder.Entries);
        using HfFolder model = HfFolder.Open(folder.Path);
        Assert.Empty(model.Warnings);
        Assert.Equal(["t0", "t1", "t2", "t3", "t4"], model.Names);
        Assert.Equal(5 * 16, model.WeightBytes);
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal([i, i, i, i], model.LoadFinite($"t{i}").HostSpan<float>().ToArray().Select(x => (int)x));
        }

        using JsonDocument index = JsonDocument.Parse(File.ReadAllText(folder["model.safetensors.index.json"]));
        Assert.Equal(80, index.RootElement.GetProperty("metadata").GetProperty("total_size").GetInt64());
        Assert.Equal("model-00003-of-00003.safetensors", index.RootElement.GetProperty("weight_map").GetProperty("t4").GetString());
    }

    [Fact]
    public void OneShardHasNoIndex()
    {
        using TempFolder folder = new();
        Write(folder, maxShardBytes: 1000);
        Assert.Equal(["config.json", "model.safetensors"], folder.Entries);
        using HfFolder model = HfFolder.Open(folder["model.safetensors"]);
        Assert.Equal(5, model.Names.Count);
        Assert.Equal("gpt2", model.Config.ModelType);
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => model.Load("t9")).Kind);
    }

    [Fact]
    public void AShardMustBeCompleteBeforeTheNext()
    {
        using TempFolder folder = new();
        using HfFolderWriter writer = new(folder.Path, Specs(), 40);
        Assert.Equal(["t0", "t1", "t2", "t3", "t4"], writer.Order);
        writer.Append("t0", new byte[16]);
        Assert.Throws<InvalidOperationException>(() => writer.Append("t2", new byte[16]));
        Assert.Throws<ArgumentException>(() => writer.Append("x", new byte[16]));
        Assert.Throws<ArgumentException>(() => new HfFolderWriter(folder.Path, [Specs()[0], Specs()[0]]));
    }

    [Fact]
    public void AnUnfinishedFolderHasNoIndex()
    {
        using TempFolder folder = new();
        using (HfFolderWriter writer = new(folder.Path, Specs(), 40))
        {
            writer.Append("t0", new byte[16]);
            writer.Append("t1", new byte[16]);
            Assert.Throws<InvalidOperationException>(writer.Commit);
        }

        Assert.Equal(["model-00001-of-00003.safetensors"], folder.Entries);
    }

    [Fact]
    public void AllDefectsAreListedAtOnce()
    {
        using TempFolder folder = new();
        Write(folder, maxShardBytes: 40);
        string index = File.ReadAllText(folder["model.safetensors.index.json"])
            .Replace("\"t4\": \"model-00003-of-00003.safetensors\"", "\"t4\": \"model-00001-of-00003.safetensors\", \"u\": \"model-00001-of-00003.safetensors\", \"v\": \"other.safetensors\", \"w\": \"third.safetensors\"", StringComparison.Ordinal);
        File.WriteAllText(folder["model.safetensors.index.json"], index);
        byte[] second = File.ReadAllBytes(folder["model-00002-of-00003.safetensors"]);
        File.WriteAllBytes(folder["model-00002-of-00003.safetensors"], second[..^1]);
        using Tensor t = Tensor.OnHost(new Shape(1), DType.F32);
        Safetensors.Save(folder["other.safetensors"], [("t0", t), ("v", t)]);

        NibbleException error = Assert.Throws<NibbleException>(() => HfFolder.Open(folder.Path));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("5 defects", error.What, StringComparison.Ordinal);
        Assert.Contains("shard third.safetensors is missing (1 tensors)", error.Why, StringComparison.Ordinal);
        Assert.Contains("shard model-00002-of-00003.safetensors: metadata incomplete", error.Why, StringComparison.Ordinal);
        Assert.Contains("tensor 't0' is in two shards: model-00001-of-00003.safetensors and other.safetensors", error.Why, StringComparison.Ordinal);
        Assert.Contains("tensor 't4' should be in model-00001-of-00003.safetensors, but no shard has it", error.Why, StringComparison.Ordinal);
        Assert.Contains("tensor 'u' should be in model-00001", error.Why, StringComparison.Ordinal);
    }

    [Fact]
    public void MissingShardsAreNotFound()
    {
        using TempFolder folder = new();
        Write(folder, maxShardBytes: 40);
        File.Delete(folder["model-00002-of-00003.safetensors"]);
        File.Delete(folder["model-00003-of-00003.safetensors"]);
        NibbleException error = Assert.Throws<NibbleException>(() => HfFolder.Open(folder.Path));
        Assert.Equal(ErrorKind.NotFound, error.Kind);
        Assert.Contains("00002", error.Why, StringComparison.Ordinal);
        Assert.Contains("00003", error.Why, StringComparison.Ordinal);
    }

    [Fact]
    public void OdditiesOfAnIndexOnlyWarn()
    {
        using TempFolder folder = new();
        Write(folder, maxShardBytes: 40);
        string index = File.ReadAllText(folder["model.safetensors.index.json"]);
        File.WriteAllText(folder["model.safetensors.index.json"], index.Replace("80", "81.5", StringComparison.Ordinal).Replace("\"t1\":", "\"t0x\":", StringComparison.Ordinal));
        Assert.Contains("'t0x'", Assert.Throws<NibbleException>(() => HfFolder.Open(folder.Path)).Why, StringComparison.Ordinal);

        File.WriteAllText(folder["model.safetensors.index.json"], index.Replace("80", "81.5", StringComparison.Ordinal).Replace("\"t1\": \"model-00001-of-00003.safetensors\",", string.Empty, StringComparison.Ordinal));
        using HfFolder model = HfFolder.Open(folder.Path);
        Assert.Equal(2, model.Warnings.Count);
        Assert.Contains("'t1' of model-00001-of-00003.safetensors is not in the index", model.Warnings[0], StringComparison.Ordinal);
        Assert.Contains("total_size of 81.5", model.Warnings[1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("\"../model.safetensors\"")]
    [InlineData("\"/etc/x.safetensors\"")]
    [InlineData("\"..\\\\x.safetensors\"")]
    [InlineData("\"c:x.safetensors\"")]
    [InlineData("\".hidden.safetensors\"")]
    [InlineData("\"pytorch_model.bin\"")]
    [InlineData("\"\"")]
    [InlineData("7")]
    [InlineData("null")]
    public void AnIndexCannotReachOutOfItsFolder(string shard)
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["config.json"], "{\"model_type\":\"gpt2\"}");
        File.WriteAllText(folder["model.safetensors.index.json"], $"{{\"weight_map\":{{\"a\":{shard}}}}}");
        NibbleException error = Assert.Throws<NibbleException>(() => HfFolder.Open(folder.Path));
        Assert.Equal(ErrorKind.BadInput, error.Kind);
        Assert.Contains("tensor 'a' is placed in", error.What, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{}", "weight_map is missing")]
    [InlineData("{\"weight_map\":[]}", "weight_map = []")]
    [InlineData("{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"x.safetensors\"}}", "not valid JSON")]
    public void DamagedIndexesAreRefused(string index, string expected)
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["config.json"], "{\"model_type\":\"gpt2\"}");
        File.WriteAllText(folder["model.safetensors.index.json"], index);
        Assert.Contains(expected, Assert.Throws<NibbleException>(() => HfFolder.Open(folder.Path)).What, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("pytorch_model.bin")]
    [InlineData("consolidated.00.pth")]
    [InlineData("model.PT")]
    [InlineData("last.ckpt")]
    public void PickleIsRefusedWithTheReason(string name)
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["config.json"], "{\"model_type\":\"gpt2\"}");
        File.WriteAllText(folder[name], "x");
        foreach (string path in (string[])[folder.Path, folder[name]])
        {
            NibbleException error = Assert.Throws<NibbleException>(() => HfFolder.Open(path));
            Assert.Equal(ErrorKind.BadInput, error.Kind);
            Assert.Contains(name, error.What, StringComparison.Ordinal);
            Assert.Contains("can run any code", error.Why, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void MissingPartsAreNamed()
    {
        using TempFolder folder = new();
        Assert.Contains("does not exist", Assert.Throws<NibbleException>(() => HfFolder.Open(folder["no"])).What, StringComparison.Ordinal);
        Assert.Contains("no config.json", Assert.Throws<NibbleException>(() => HfFolder.Open(folder.Path)).What, StringComparison.Ordinal);
        File.WriteAllText(folder["a.gguf"], "GGUF");
        Assert.Contains($"nibble convert {folder["a.gguf"]} FOLDER", Assert.Throws<NibbleException>(() => HfFolder.Open(folder["a.gguf"])).Remedy, StringComparison.Ordinal);
        File.WriteAllText(folder["config.json"], "{\"model_type\":\"gpt2\"}");
        Assert.Contains("no model.safetensors", Assert.Throws<NibbleException>(() => HfFolder.Open(folder.Path)).What, StringComparison.Ordinal);
        File.WriteAllText(folder["odd.safetensors"], "x");
        Assert.Contains("odd.safetensors", Assert.Throws<NibbleException>(() => HfFolder.Open(folder.Path)).Remedy, StringComparison.Ordinal);
    }

    [Fact]
    public void NaNWeightsAreRefusedByName()
    {
        using TempFolder folder = new();
        File.WriteAllText(folder["config.json"], "{\"model_type\":\"gpt2\"}");
        using Tensor t = Tensor.From<float>(new Shape(2), DType.F32, [1, float.NegativeInfinity]);
        Safetensors.Save(folder["model.safetensors"], [("h.0.w", t)]);
        using HfFolder model = HfFolder.Open(folder.Path);
        NibbleException error = Assert.Throws<NibbleException>(() => model.LoadFinite("h.0.w"));
        Assert.Contains("tensor 'h.0.w'", error.What, StringComparison.Ordinal);
        Assert.Contains("element 1", error.Why, StringComparison.Ordinal);
        Assert.Equal(2, model.Load("h.0.w").Shape.Count);
    }

    [Fact]
    public void TokenizerFilesAreCopied()
    {
        using TempFolder source = new();
        using TempFolder target = new();
        File.WriteAllText(source["tokenizer.json"], "{}");
        File.WriteAllText(source["extra.txt"], "x");
        File.WriteAllText(source["pytorch_model.bin"], "x");
        using HfFolderWriter writer = new(target.Path, []);
        writer.CopyFiles(source.Path, "extra.txt");
        Assert.Equal(["extra.txt", "tokenizer.json"], target.Entries);
    }

    [SkippableFact]
    public void RealModelsOpen()
    {
        string? models = TestData.Shared("data/models");
        Skip.If(models == null, "shared/data/models is not beside the repository");
        foreach (string path in Directory.GetFiles(models, "model.safetensors", SearchOption.AllDirectories))
        {
            using HfFolder model = HfFolder.Open(Path.GetDirectoryName(path)!);
            Assert.Empty(model.Warnings);
            Assert.All(model.Names, name => model.LoadFinite(name));
        }
    }

    private static SafetensorsSpec[] Specs() => Enumerable.Range(0, 5).Select(i => new SafetensorsSpec($"t{i}", DType.F32, new Shape(4))).ToArray();

    private static void Write(TempFolder folder, long maxShardBytes)
    {
        using HfFolderWriter writer = new(folder.Path, Specs(), maxShardBytes);
        foreach (string name in writer.Order.ToArray())
        {
            using Tensor tensor = Tensor.From<float>(new Shape(4), DType.F32, Enumerable.Repeat((float)(name[1] - '0'), 4).ToArray());
            writer.Append(name, tensor);
        }

        using JsonDocument config = JsonDocument.Parse("{\"model_type\":\"gpt2\"}");
        writer.WriteConfig(config.RootElement);
        writer.Commit();
    }
}
