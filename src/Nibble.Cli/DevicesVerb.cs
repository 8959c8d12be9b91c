using System.CommandLine;
using Nibble.Backends;
using Spectre.Console;

namespace Nibble.Cli;

/// <summary><c>nibble devices</c>: what this machine can compute on.</summary>
internal sealed class DevicesVerb : IVerb
{
    public Command Create(CancellationToken cancellation)
    {
        Option<bool> json = CommonOptions.Json();
        Command command = new("devices", "List the devices that Nibble can use.") { json };
        command.SetAction(parsed =>
        {
            MachineFacts facts = MachineFacts.Read();
            if (parsed.GetValue(json))
            {
                Output.Json(new { Schema = 1, Devices = new[] { facts } });
                return;
            }

            Table table = new Table().AddColumns("device", "processor", "cores", "memory", "instruction sets");
            table.AddRow(facts.Device, Markup.Escape(facts.Processor), $"{facts.Cores}", $"{facts.MemoryBytes / 1e9:F1} GB", string.Join(' ', facts.InstructionSets));
            Output.Human.Write(table);
        });
        return command;
    }
}
