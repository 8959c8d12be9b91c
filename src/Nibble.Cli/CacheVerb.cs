using System.CommandLine;
using System.Globalization;
using Nibble.Hub;
using Nibble.IO;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble cache</c>: what was downloaded from the Hub, and what it takes of the disk.</summary>
internal sealed class CacheVerb : IVerb
{
    private readonly Option<string?> _remove = new("--remove") { Description = "ORG/NAME of a model to delete, with all its revisions." };
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "With --remove: say what would become free, and delete nothing." };
    private readonly Option<bool> _json = CommonOptions.Json();

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("cache", "List the models that were downloaded from the Hub, or delete one.") { _remove, _dryRun, _json };
        command.SetAction(Run);
        return command;
    }

    private void Run(ParseResult parsed)
    {
        HubCache cache = HubCache.OfUser;
        if (parsed.GetValue(_remove) is { } name)
        {
            HubName model = HubName.Parse(name);
            if (model != new HubName(model.Repository))
            {
                throw new NibbleException(ErrorKind.Usage, $"--remove {name}", "models are deleted with all their revisions and files", $"give --remove {model.Repository}");
            }

            Remove(cache, model.Repository, parsed.GetValue(_dryRun), parsed.GetValue(_json));
            return;
        }

        if (parsed.GetValue(_dryRun))
        {
            throw new NibbleException(ErrorKind.Usage, "--dry-run without --remove", "nothing is deleted anyway", "give --remove ORG/NAME, or leave it out");
        }

        IReadOnlyList<HubCachedModel> models = cache.List();
        if (parsed.GetValue(_json))
        {
            Output.Json(new { Schema = 1, Path = cache.Root, Bytes = models.Sum(model => model.Bytes), Models = models });
            return;
        }

        if (models.Count == 0)
        {
            Output.Text.WriteLine($"{cache.Root} holds no models; 'nibble pull ORG/NAME' downloads one");
            return;
        }

        Table table = new Table().AddColumns("model", "revisions", "size", "unfinished", "last added (UTC)");
        foreach (HubCachedModel model in models)
        {
            string revisions = string.Join(", ", model.Revisions.Select(one => one.Names.Count > 0 ? string.Join('/', one.Names) : one.Commit[..Math.Min(8, one.Commit.Length)]));
            string unfinished = model.UnfinishedBytes > 0 ? Sizes.Text(model.UnfinishedBytes) : string.Empty;
            table.AddRow(Markup.Escape(model.Repository), Markup.Escape(revisions), Sizes.Text(model.Bytes), unfinished, model.LastModified.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture));
        }

        Output.Human.Write(table);
        Output.Text.WriteLine($"{Sizes.Text(models.Sum(model => model.Bytes))} in {cache.Root}");
    }

    private static void Remove(HubCache cache, string repository, bool dryRun, bool json)
    {
        long bytes = dryRun ? cache.Get(repository).Bytes : cache.Remove(repository);
        if (json)
        {
            Output.Json(new { Schema = 1, Model = repository, Removed = !dryRun, Bytes = bytes });
            return;
        }

        Output.Text.WriteLine(dryRun ? $"{repository} would free {Sizes.Text(bytes)}" : $"{repository} is deleted, {Sizes.Text(bytes)} are free");
    }
}
