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
            IReadOnlyList<CardFacts> cards = CardFacts.All();
            if (parsed.GetValue(json))
            {
                Output.Json(new { Schema = 1, Devices = new object[] { facts }.Concat(cards) });
                return;
            }

            Table table = new Table().AddColumns("device", "processor", "cores", "memory", "instruction sets");
            table.AddRow(facts.Device, Markup.Escape(facts.Processor), $"{facts.Cores}", $"{facts.MemoryBytes / 1e9:F1} GB", string.Join(' ', facts.InstructionSets));
            foreach (CardFacts card in cards)
            {
                table.AddRow(card.Device, Markup.Escape(card.Processor), $"{card.Multiprocessors}", $"{card.MemoryBytes / 1e9:F1} GB", string.Join(' ', card.InstructionSets));
            }

            Output.Human.Write(table);
        });
        return command;
    }
}
