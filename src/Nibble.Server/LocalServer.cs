using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Nibble.IO;

namespace Nibble.Server;

/// <summary>What every server of Nibble has in common: it binds, guards against pages of other origins, and ends when it is told to.</summary>
public static class LocalServer
{
    /// <summary>An application without routes that listens at <paramref name="address"/> once it runs.</summary>
    /// <param name="address">Where it listens.</param>
    /// <param name="largestRequest">Most bytes of a request's body.</param>
    /// <exception cref="NibbleException">The address is none.</exception>
    public static WebApplication Create(ListenAddress address, long largestRequest)
    {
        IPEndPoint endPoint = address.EndPoint();
        // The command's own arguments and the folder that it runs in configure nothing here.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.Logging.ClearProviders();
        builder.Services.AddRoutingCore();
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = largestRequest;
            kestrel.Listen(endPoint);
        });
        WebApplication app = builder.Build();
        if (address.IsLoopback)
        {
            app.Use(RefuseForeignNames);
        }

        app.UseRouting();
        return app;
    }

    /// <summary>Runs until <paramref name="cancellation"/>; <paramref name="started"/> is told the address once it answers.</summary>
    /// <exception cref="NibbleException">The port is taken or may not be used.</exception>
    public static void Run(WebApplication app, Action<Uri> started, CancellationToken cancellation)
    {
        try
        {
            app.StartAsync(cancellation).GetAwaiter().GetResult();
        }
        catch (IOException error) when (error.InnerException is AddressInUseException)
        {
            throw new NibbleException(ErrorKind.Resource, "the port is taken", error.Message, "choose another with --port, or 0 for a free one", error);
        }
        catch (System.Net.Sockets.SocketException error)
        {
            throw new NibbleException(ErrorKind.Resource, "the server cannot listen there", error.Message, "choose another --host or --port (ports below 1024 need rights)", error);
        }

        started(AddressOf(app));
        // The host takes SIGTERM for itself and says that it stops: it would never end otherwise.
        WaitHandle.WaitAny([cancellation.WaitHandle, app.Lifetime.ApplicationStopping.WaitHandle]);
        // Answers that are being written get a moment to end.
        using CancellationTokenSource patience = new(TimeSpan.FromSeconds(5));
        app.StopAsync(patience.Token).GetAwaiter().GetResult();
    }

    /// <summary>The address that a running application answers at.</summary>
    public static Uri AddressOf(WebApplication app) => new(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());

    // A page elsewhere can have its own name resolve to 127.0.0.1 (DNS rebinding): only this machine's names are answered.
    private static Task RefuseForeignNames(HttpContext context, RequestDelegate next)
    {
        string host = context.Request.Host.Host;
        if (host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(host.Trim('[', ']'), out IPAddress? address) && IPAddress.IsLoopback(address)))
        {
            return next(context);
        }

        context.Response.StatusCode = StatusCodes.Status421MisdirectedRequest;
        return context.Response.WriteAsync($"this server answers to localhost and 127.0.0.1, not to {host}\n");
    }
}
