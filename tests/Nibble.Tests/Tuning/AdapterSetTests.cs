using Nibble.IO;
using Nibble.Models;
using Nibble.Tests.Models;
using Nibble.Tuning;

namespace Nibble.Tests.Tuning;

/// <summary>Several adapters on one base. The bases have no tokenizer: they run on ids.</summary>
public class AdapterSetTests
{
    private static readonly int[] Ids = [3, 4, 5, 6, 7, 8, 9, 20, 11];

    [Theory]
    [InlineData("gpt2", "gpt2-lora", "gpt2-dora", "gpt2-ia3", "gpt2-rslora")]
    [InlineData("llama", "llama-prefix", "llama-lora", "llama-prompt", "llama-dora")]
    public void EachGivesWhatItGivesAloneInAnyOrder(string name, params string[] adapters)
    {
        using LoadedModel model = LoadedModel.Load(Base(name));
        float[][] plain = ModelRun.Whole(model.Model, Ids);
        Dictionary<string, float[][]> alone = adapters.ToDictionary(adapter => adapter, adapter =>
        {
            using LoadedModel one = LoadedModel.Load(Base(name), new LoadOptions { Adapter = Folder(adapter) });
            return ModelRun.Whole(one.Model, Ids);
        });
        using (AdapterSet set = new(model))
        {
            foreach (string adapter in adapters)
            {
                set.Add(adapter, Folder(adapter));
            }

            Assert.Equal(plain, ModelRun.Whole(model.Model, Ids));
            foreach (string adapter in (string[])[.. adapters, .. adapters.Reverse()])
            {
                set.Use(adapter);
                Assert.Equal(adapter, set.Current);
                Assert.Equal(alone[adapter], ModelRun.Whole(model.Model, Ids));
            }
        }

        Assert.Equal(plain, ModelRun.Whole(model.Model, Ids));
    }

    [Fact]
    public void AWeightedSumIsThatOfTheMergedMatrices()
    {
        string text = $"{Folder("gpt2-lora")}=0.75,{Folder("gpt2-rslora")}=-0.5";
        using LoadedModel model = LoadedModel.Load(Base("gpt2")), mixed = LoadedModel.Load(Base("gpt2"), new LoadOptions { Adapter = text });
        float[][] expected = ModelRun.Whole(mixed.Model, Ids);
        using AdapterSet set = new(model);
        set.Add("one", Folder("gpt2-lora"));
        set.Add("two", Folder("gpt2-rslora"));
        set.Mix([("one", 0.75f), ("two", -0.5f)]);
        Assert.Equal(expected, ModelRun.Whole(model.Model, Ids));
        set.Use(null);

        using TempFolder output = new();
        using (LoadedModel plain = LoadedModel.Load(Base("gpt2")))
        using (IAdapter mixture = Adapters.Load(text, plain.Config, plain.Backend))
        {
            MergedModel.Write(plain.Model, plain.Config, plain.Path, mixture, Nibble.Tensors.DType.F32, output.Path);
        }

        using LoadedModel merged = LoadedModel.Load(output.Path);
        Assert.True(ModelRun.Error(ModelRun.Whole(merged.Model, Ids), expected) < 1e-5);
    }

    [Fact]
    public void WhatCannotBeUsedIsNamed()
    {
        using LoadedModel model = LoadedModel.Load(Base("gpt2"));
        using AdapterSet set = new(model);
        set.Add("lora", Folder("gpt2-lora"));
        set.Add("dora", Folder("gpt2-dora"));
        Assert.Contains("there are lora, dora", Assert.Throws<NibbleException>(() => set.Use("other")).Message, StringComparison.Ordinal);
        Assert.Contains("there is an adapter 'lora' already", Assert.Throws<NibbleException>(() => set.Add("lora", Folder("gpt2-lora"))).Message, StringComparison.Ordinal);
        Assert.Contains("adapter dora cannot be mixed", Assert.Throws<NibbleException>(() => set.Mix([("lora", 1), ("dora", 1)])).Message, StringComparison.Ordinal);
        Assert.Throws<NibbleException>(() => set.Add("llama", Folder("llama-lora")));
        Assert.Equal(["lora", "dora"], set.Names);
        Assert.Contains("is no FOLDER=WEIGHT", Assert.Throws<NibbleException>(() => Adapters.Load("a=x", model.Config, model.Backend)).Message, StringComparison.Ordinal);
    }

    private static string Base(string name) => Path.Combine(TestData.Goldens, "models", name);

    private static string Folder(string name) => Path.Combine(TestData.Goldens, "adapters", name);
}
