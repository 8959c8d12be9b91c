using System.CommandLine;
using Microsoft.AspNetCore.Builder;
using Nibble.IO;
using Nibble.Runs;
using Nibble.Server;
using Nibble.Server.Dashboard;

namespace Nibble.Cli;

/// <summary><c>nibble dashboard</c>: the run store as a local web page.</summary>
internal sealed class DashboardVerb : IVerb
{
    private const int DefaultPort = 8765;

    private readonly Option<string> _host = new("--host") { Description = "Address to listen at; 127.0.0.1 is reached from this machine alone.", DefaultValueFactory = _ => "127.0.0.1" };
    private readonly Option<int> _port = new("--port") { Description = "Port; 0 takes a free one.", DefaultValueFactory = _ => DefaultPort };

    public Command Create(CancellationToken cancellation)
    {
        Command command = new("dashboard", "Show runs in a browser: trainings as they go, results, comparisons, this machine.") { _host, _port };
        command.SetAction(parsed => Run(parsed, cancellation));
        return command;
    }

    private void Run(ParseResult parsed, CancellationToken cancellation)
    {
        string store = RunStore.DefaultPath ?? throw new NibbleException(ErrorKind.Usage, $"the run store is off ({RunStore.EnvironmentVariable})", remedy: "unset that variable");
        ListenAddress address = new(parsed.GetRequiredValue(_host), parsed.GetValue(_port));
        Interruption.Notice = "ending (Ctrl-C again stops at once)";
        using WebApplication app = DashboardServer.Create(address, store);
        if (!address.IsLoopback)
        {
            Console.Error.WriteLine("warning: everyone who reaches this address can read the runs: models, paths, settings, results");
        }

        Interruption.IsServer = true;
        LocalServer.Run(
            app,
            at =>
            {
                Console.Error.WriteLine($"dashboard: {at} (runs of {store}; Ctrl-C ends it)");
            },
            cancellation);
        // As everywhere: 130 after Ctrl-C, 0 after SIGTERM.
        cancellation.ThrowIfCancellationRequested();
    }
}
