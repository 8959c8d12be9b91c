using System.CommandLine;
using Nibble.Formats;
using Nibble.IO;
using Nibble.Models;
using Nibble.Tensors;
using Nibble.Tuning;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble merge</c>: a base and an adapter as one dense model.</summary>
internal sealed class MergeVerb : IVerb
{
    public Command Create(CancellationToken cancellation)
    {
        Argument<string> model = CommonOptions.Model();
        Option<string> adapter = new("--adapter") { Description = "Folder of the PEFT adapter.", Required = true };
        Option<string?> dtype = CommonOptions.Dtype(), output = CommonOptions.Output("Folder to write.");
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json();
        output.Required = true;
        Command command = new("merge", "Merge an adapter into its base: a dense model that needs no adapter.") { model, adapter, dtype, output, force, json };
        command.SetAction(parsed =>
        {
            DType target = parsed.GetValue(dtype) is { } name ? Enum.Parse<DType>(name, ignoreCase: true) : DType.BF16;
            string folder = parsed.GetRequiredValue(output)!;
            OutputFolder.Check(folder, parsed.GetValue(force));
            using LoadedModel loaded = LoadedModel.Load(parsed.GetRequiredValue(model));
            using IAdapter part = Adapters.Load(parsed.GetRequiredValue(adapter), loaded.Config, loaded.Backend);
            using OutputFolder whole = OutputFolder.Create(folder, parsed.GetValue(force));
            MergedModel.Write(loaded.Model, loaded.Config, loaded.Path, part, target, whole.Path);
            whole.Commit();
            long bytes = new DirectoryInfo(folder).EnumerateFiles().Sum(file => file.Length);
            Output.Human.WriteLine($"merged into {folder}: {target}, {Sizes.Text(bytes)}");
            if (parsed.GetValue(json))
            {
                Output.Json(new { Schema = 1, Model = loaded.Path, Adapter = parsed.GetValue(adapter), Dtype = target.ToString().ToLowerInvariant(), Output = folder, FileBytes = bytes });
            }
        });
        return command;
    }
}
