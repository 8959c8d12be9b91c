using System.Diagnostics;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tuning;

namespace Nibble.Bench.Benches;

/// <summary>Time from one adapter to another on one base, beside loading the adapter from its file.</summary>
internal static class AdapterSwitch
{
    private const int Switches = 1000;

    public static void Run(BenchOptions options, BenchReport report)
    {
        string path = options.Model ?? AssetFolder.Find(Path.Combine("assets", "nibble-gpt2-10m"));
        using LoadedModel model = LoadedModel.Load(path, new LoadOptions { Threads = options.Threads });
        string folder = Directory.CreateTempSubdirectory("nibble-adapters-").FullName;
        try
        {
            Measure(model, folder, options, report);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Measure(LoadedModel model, string folder, BenchOptions options, BenchReport report)
    {
        string[] names = ["one", "two"];
        foreach (string name in names)
        {
            using LoraAdapter adapter = LoraAdapter.Create(
                model.Model, Registry.Architecture(model.Config).Linears(model.Config), new LoraSettings { Rank = 16, TargetModules = ["all-linear"] }, (ulong)name.Length);
            Directory.CreateDirectory(Path.Combine(folder, name));
            adapter.Save(Path.Combine(folder, name));
        }

        using AdapterSet set = new(model);
        double[] loads = [.. names.Select(name => Seconds(() => set.Add(name, Path.Combine(folder, name))) * 1e3)];
        double[] switches = [.. Enumerable.Range(0, options.Rounds).Select(_ => Seconds(() =>
        {
            for (int i = 0; i < Switches; i++)
            {
                set.Use(names[i % names.Length]);
            }
        }) / Switches * 1e3)];
        report.Add("reading an adapter of rank 16, all layers", loads, "ms");
        report.Add("switching between two", switches, "ms");
    }

    private static double Seconds(Action body)
    {
        long start = Stopwatch.GetTimestamp();
        body();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }
}
