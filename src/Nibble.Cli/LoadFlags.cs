using System.CommandLine;
using Nibble.Models;
using Nibble.Tensors;

namespace Nibble.Cli;

/// <summary>The options of every verb that runs a model, and what they say together.</summary>
internal sealed class LoadFlags(string activations, bool threads = true, bool keepsPacks = false)
{
    private readonly Option<string> _device = CommonOptions.Device();
    private readonly Option<int?> _threads = CommonOptions.Threads();
    private readonly Option<string?> _affinity = CommonOptions.Affinity();
    private readonly Option<string?> _dtype = CommonOptions.Dtype();
    private readonly Option<string> _activations = CommonOptions.Activations(activations);

    private readonly Option<string> _kvCache = CommonOptions.KvCache();

    private readonly Option<string> _packCache = CommonOptions.PackCache();

    private readonly Option<string?> _adapter = new("--adapter") { Description = "Folder of a PEFT adapter to put on the model, or ORG/NAME of one that nibble pull brought." };

    public void AddTo(Command command)
    {
        command.Options.Add(_device);
        if (threads)
        {
            command.Options.Add(_threads);
        }

        command.Options.Add(_affinity);
        command.Options.Add(_dtype);
        command.Options.Add(_activations);
        command.Options.Add(_kvCache);
        command.Options.Add(_adapter);
        if (keepsPacks)
        {
            command.Options.Add(_packCache);
        }
    }

    /// <summary>Says where packed weights went, or why they did not; nothing where they were only read.</summary>
    public static void Tell(PackCacheReport? report)
    {
        string? text = report switch
        {
            { State: "written" } => $"packed weights kept for the next start: {report.Path} ({report.Bytes:N0} bytes{(report.Reason is null ? string.Empty : $"; the old file was refused: {report.Reason}")}); --pack-cache off does without",
            { Reason: { } reason } => $"packed weights are not kept: {reason}; --pack-cache DIR names another folder, off does without",
            _ => null,
        };
        if (text is not null)
        {
            Console.Error.WriteLine(text);
        }
    }

    public LoadOptions Read(ParseResult parsed)
    {
        CommonOptions.UseAffinity(parsed.GetValue(_affinity));
        return new()
        {
            Adapter = parsed.GetValue(_adapter) is { } adapter ? Hub.HubCache.Find(adapter) : null,
            Device = parsed.GetRequiredValue(_device),
            Threads = threads ? parsed.GetValue(_threads) : null,
            Activations = Enum.Parse<ActivationChoice>(parsed.GetRequiredValue(_activations), ignoreCase: true),
            KvCache = Enum.Parse<KvCacheType>(parsed.GetRequiredValue(_kvCache), ignoreCase: true),
            PackCache = keepsPacks ? parsed.GetRequiredValue(_packCache) : null,
            Dtype = parsed.GetValue(_dtype) is { } name ? Enum.Parse<DType>(name, ignoreCase: true) : null,
        };
    }
}
