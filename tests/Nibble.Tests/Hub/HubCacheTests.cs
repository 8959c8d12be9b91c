using Nibble.Generation;
using Nibble.Hub;
using Nibble.IO;
using Nibble.Models;

namespace Nibble.Tests.Hub;

/// <summary>What is in the cache, and how models are found there by name. Changes variables of the process.</summary>
[Collection(ProcessState.Name)]
public sealed class HubCacheTests : IDisposable
{
    private static readonly string[] Variables = ["HF_HUB_CACHE", "HF_HOME", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HUGGINGFACE_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN", "TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME"];

    private readonly Dictionary<string, string?> _before = Variables.ToDictionary(name => name, Environment.GetEnvironmentVariable);
    private readonly TempFolder _folder = new();
    private readonly FakeHub _hub;

    public HubCacheTests()
    {
        Variables.ToList().ForEach(name => Environment.SetEnvironmentVariable(name, null));
        Environment.SetEnvironmentVariable("HF_HUB_CACHE", _folder["hub"]);
        _hub = new FakeHub(_folder["hub"]);
    }

    public void Dispose()
    {
        _hub.Dispose();
        _folder.Dispose();
        _before.ToList().ForEach(variable => Environment.SetEnvironmentVariable(variable.Key, variable.Value));
    }

    [Fact]
    public void AModelIsLoadedByItsName()
    {
        Put(Directory.GetFiles(Path.Combine(TestData.Repository, "assets", "nibble-llama-4m")).ToDictionary(file => Path.GetFileName(file)!, File.ReadAllBytes));
        string place = HubCache.Find("org/name");
        Assert.Equal("org/name", HubCache.Called(place));
        using LoadedModel model = LoadedModel.Load(place);
        Assert.NotEmpty(string.Concat(model.Generate("def add(", new GenerationOptions { MaxTokens = 4 })));
        Assert.Equal(place, HubCache.Find("org/name@" + FakeHub.Commit));
        Assert.Equal(Path.Combine(place, "model.safetensors"), HubCache.Find("org/name:model.safetensors"));
    }

    [Fact]
    public void WhatIsNotThereSaysHowToGetIt()
    {
        Assert.Equal("org/name", HubCache.Find("org/name"));
        NibbleException error = Assert.Throws<NibbleException>(() => LoadedModel.Load("org/name").Dispose());
        Assert.Equal(ErrorKind.NotFound, error.Kind);
        Assert.Contains("nibble pull org/name", error.Message, StringComparison.Ordinal);
        Put(new() { ["config.json"] = "{}"u8.ToArray() }, "*.json");
        error = Assert.Throws<NibbleException>(() => LoadedModel.Load(HubCache.Find("org/name")).Dispose());
        Assert.Contains("is in the cache without weights", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OneOfSeveralGgufFilesHasToBeNamed()
    {
        Put(new() { ["m-Q4_0.gguf"] = [1], ["m-Q8_0.gguf"] = [2], ["big-00001-of-00002.gguf"] = [3], ["big-00002-of-00002.gguf"] = [4] }, "*.gguf");
        Assert.Equal("m-Q8_0.gguf", Path.GetFileName(HubCache.Find("org/name:q8_0")));
        Assert.Equal("big-00001-of-00002.gguf", Path.GetFileName(HubCache.Find("org/name:big")));
        Assert.Equal("org/name", HubCache.Find("org/name"));
        NibbleException error = Assert.Throws<NibbleException>(() => LoadedModel.Load("org/name").Dispose());
        Assert.Equal(ErrorKind.Usage, error.Kind);
        Assert.Contains("has 3 files to choose from", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FilesAndFoldersComeFirst()
    {
        Put(new() { ["model.safetensors"] = [1] });
        string current = Environment.CurrentDirectory;
        try
        {
            Environment.CurrentDirectory = Directory.CreateDirectory(_folder["work"]).FullName;
            Directory.CreateDirectory(Path.Combine("org", "name"));
            Assert.Equal("org/name", HubCache.Find("org/name"));
            Directory.Delete("org", recursive: true);
            Assert.StartsWith(_folder["hub"], HubCache.Find("org/name"), StringComparison.Ordinal);
            Assert.Equal("missing.gguf", HubCache.Find("missing.gguf"));
        }
        finally
        {
            Environment.CurrentDirectory = current;
        }
    }

    [Fact]
    public void TheListCountsContentsOnceAndUnfinishedOnesToo()
    {
        HubCache cache = new(_folder["hub"]);
        Assert.Empty(cache.List());
        Put(new() { ["config.json"] = new byte[100], ["model.safetensors"] = new byte[5000] });
        _hub.Sha = new string('b', 40);
        Put(new() { ["config.json"] = new byte[101], ["model.safetensors"] = new byte[5000] }, name: new HubName("org/name", "v2"));
        File.WriteAllBytes(Path.Combine(_folder["hub"], "models--org--name", "blobs", "x.incomplete"), new byte[7]);
        HubCachedModel model = Assert.Single(cache.List());
        Assert.Equal(("org/name", 7L, 2), (model.Repository, model.UnfinishedBytes, model.Revisions.Count));
        // Both references are small files too.
        Assert.Equal(100 + 101 + 5000 + 7 + 80, model.Bytes);
        Assert.Equal(["main", "v2"], model.Revisions.SelectMany(one => one.Names).Order());
    }

    [Fact]
    public void RemovingLeavesOtherModels()
    {
        HubCache cache = new(_folder["hub"]);
        Put(new() { ["model.safetensors"] = new byte[5000] });
        Directory.CreateDirectory(Path.Combine(_folder["hub"], "models--org--other", "blobs"));
        Assert.Equal(5040, cache.Remove("Org/Name"));
        Assert.Equal(["org/other"], cache.List().Select(model => model.Repository));
        Assert.Equal(ErrorKind.NotFound, Assert.Throws<NibbleException>(() => cache.Remove("org/name")).Kind);
    }

    [Fact]
    public void TheEnvironmentIsThatOfHuggingfacesTools()
    {
        Environment.SetEnvironmentVariable("HF_HUB_CACHE", null);
        Environment.SetEnvironmentVariable("XDG_CACHE_HOME", _folder["xdg"]);
        Assert.Equal(Path.Combine(_folder["xdg"], "huggingface", "hub"), HubSettings.FromEnvironment().CachePath);
        Environment.SetEnvironmentVariable("HF_HOME", Directory.CreateDirectory(_folder["home"]).FullName);
        File.WriteAllText(_folder["home/token"], "hf_file\n");
        HubSettings settings = HubSettings.FromEnvironment();
        Assert.Equal((Path.Combine(_folder["home"], "hub"), "hf_file", false, "https://huggingface.co/"), (settings.CachePath, settings.Token, settings.Offline, settings.Endpoint.AbsoluteUri));
        Environment.SetEnvironmentVariable("HF_TOKEN", " hf_variable ");
        Environment.SetEnvironmentVariable("HF_HUB_OFFLINE", "1");
        Environment.SetEnvironmentVariable("HF_ENDPOINT", "http://mirror:8080/hf");
        settings = HubSettings.FromEnvironment();
        Assert.Equal(("hf_variable", true, "http://mirror:8080/hf/"), (settings.Token, settings.Offline, settings.Endpoint.AbsoluteUri));
        Environment.SetEnvironmentVariable("HF_ENDPOINT", "mirror");
        Assert.Equal(ErrorKind.Usage, Assert.Throws<NibbleException>(HubSettings.FromEnvironment).Kind);
    }

    private void Put(Dictionary<string, byte[]> files, string? pattern = null, HubName? name = null)
    {
        _hub.Files.Clear();
        files.ToList().ForEach(file => _hub.Files[file.Key] = file.Value);
        HubDownload.Plan(_hub.Settings, name ?? new HubName("org/name"), pattern is null ? [] : [pattern]).Run();
    }
}
