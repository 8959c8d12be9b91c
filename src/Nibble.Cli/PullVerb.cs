using System.CommandLine;
using System.Diagnostics;
using Nibble.Hub;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble pull</c>: downloads a model of the Hub into the cache that Hugging Face's tools share.</summary>
internal sealed class PullVerb : IVerb
{
    private readonly Argument<string> _model = new("model") { Description = "ORG/NAME of a model on the Hub, with @REVISION and :FILE (or a part of a GGUF file's name, as Q4_K_M) behind it." };
    private readonly Option<string?> _revision = new("--revision") { Description = "Branch, tag or commit (default: main)." };
    private readonly Option<string[]> _include = new("--include") { Description = "Pattern of paths with * and ? to download, instead of what Nibble can use; may be repeated." };
    private readonly Option<bool> _dryRun = CommonOptions.DryRun();
    private readonly Option<bool> _json = CommonOptions.Json();

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("pull", "Download a model from the Hugging Face Hub.") { _model, _revision, _include, _dryRun, _json };
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private void Run(ParseResult parsed, CancellationToken cancellation)
    {
        HubSettings settings = HubSettings.FromEnvironment();
        HubName name = HubName.Parse(parsed.GetRequiredValue(_model), settings.Endpoint);
        name = parsed.GetValue(_revision) is { } revision ? HubName.Parse($"{name.Repository}@{revision}") with { File = name.File } : name;
        HubDownload download = HubDownload.Plan(settings, name, parsed.GetValue(_include));
        long bytes = download.MissingBytes, began = Stopwatch.GetTimestamp();
        string renamed = download.NameNow == download.Repository ? string.Empty : $" (now {download.NameNow})";
        Output.Text.WriteLine(
            $"{download.Repository}{renamed} at {download.Commit[..12]}: {download.Files.Count} files, {Sizes.Text(download.Files.Sum(file => file.Bytes))}; {(download.Missing.Count == 0 ? "all in the cache" : $"{download.Missing.Count} to download, {Sizes.Text(bytes)}")}");
        if (!parsed.GetValue(_dryRun))
        {
            using PullProgress progress = new(download, bytes);
            download.Run(progress.Tell, cancellation);
        }

        if (parsed.GetValue(_json))
        {
            Output.Json(new
            {
                Schema = 1, Model = download.Repository, download.Commit, Path = download.Snapshot, DownloadedBytes = download.ReceivedBytes, MissingBytes = parsed.GetValue(_dryRun) ? bytes : 0,
                Seconds = Stopwatch.GetElapsedTime(began).TotalSeconds, Files = download.Files.Select(file => new { file.Path, file.Bytes, file.Hash }),
            });
        }
        else if (parsed.GetValue(_dryRun))
        {
            Output.Human.Write(Listed(download));
        }
        else
        {
            // The folder alone goes to stdout, for scripts.
            Console.Out.WriteLine(download.Snapshot);
        }
    }

    private static Table Listed(HubDownload download)
    {
        Table table = new Table().AddColumns("file", "size", "state");
        foreach (HubFile file in download.Files.OrderBy(file => file.Path, StringComparer.Ordinal))
        {
            table.AddRow(Markup.Escape(file.Path), Sizes.Text(file.Bytes), download.Missing.Contains(file) ? "to download" : "in the cache");
        }

        return table;
    }
}
