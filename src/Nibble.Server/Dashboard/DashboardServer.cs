using System.IO.Compression;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Nibble.IO;
using Nibble.Runs;
using Nibble.Runs.Reports;

namespace Nibble.Server.Dashboard;

/// <summary>
/// A page over a run store, and the documents behind it. It only reads: there is no route that changes anything. Everything comes from
/// this program; the page may neither load nor send anything elsewhere.
/// </summary>
public static class DashboardServer
{
    private const string Script = "text/javascript; charset=utf-8";
    private const string Style = "text/css; charset=utf-8";

    // Charts place their labels by style attributes; scripts come from here alone.
    private const string PagePolicy =
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    // A report is a file that lies somewhere: its script gets an origin of its own, from which it can ask for nothing here.
    private const string ReportPolicy = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";

    private static readonly string[] Reading = [HttpMethods.Get, HttpMethods.Head];

    private static readonly (string Name, string Type)[] OwnFiles =
        [("dashboard.css", Style), ("common.js", Script), ("charts.js", Script), ("runs.js", Script), ("run.js", Script), ("compare.js", Script), ("machine.js", Script), ("dashboard.js", Script)];

    /// <summary>The dashboard at an address.</summary>
    /// <param name="address">Where it listens.</param>
    /// <param name="store">File of the run store; it need not be there yet.</param>
    /// <exception cref="NibbleException">The address is none.</exception>
    public static WebApplication Create(ListenAddress address, string store)
    {
        WebApplication app = LocalServer.Create(address, largestRequest: 0);
        RunDocuments documents = new(Path.GetFullPath(store));
        MachineDocument machine = new();
        app.Use(WithHeaders);
        Map(app, "/", context => Send(context, "text/html; charset=utf-8", Asset("dashboard.html")));
        foreach ((string name, string type) in OwnFiles)
        {
            byte[] content = Asset(name);
            Map(app, "/assets/" + name, context => Send(context, type, content));
        }

        byte[] report = System.Text.Encoding.UTF8.GetBytes(HtmlReport.Asset("report.css"));
        Map(app, "/assets/report.css", context => Send(context, Style, report));
        Map(app, "/assets/echarts.js", SendCharts);
        Map(app, "/api/runs", context => Answer(context, () => documents.List(context.Request.Query)));
        Map(app, "/api/runs/{id:long}", context => Answer(context, () => documents.Run(IdOf(context), context.Request.Query)));
        Map(app, "/api/compare", context => Answer(context, () => documents.Compare(context.Request.Query)));
        Map(app, "/api/machine", context => Answer(context, () => machine.Read(documents.Path)));
        Map(app, "/runs/{id:long}/report.html", context => SendReport(context, documents));
        return app;
    }

    private static void Map(WebApplication app, string pattern, RequestDelegate answer) => app.MapMethods(pattern, Reading, answer);

    private static Task WithHeaders(HttpContext context, RequestDelegate next)
    {
        IHeaderDictionary headers = context.Response.Headers;
        headers.ContentSecurityPolicy = PagePolicy;
        headers.XContentTypeOptions = "nosniff";
        headers["Referrer-Policy"] = "no-referrer";
        headers["Cross-Origin-Resource-Policy"] = "same-origin";
        headers.CacheControl = "no-store";
        return next(context);
    }

    private static long IdOf(HttpContext context) => long.Parse((string)context.Request.RouteValues["id"]!, System.Globalization.CultureInfo.InvariantCulture);

    private static Task Answer(HttpContext context, Func<object> document)
    {
        object body;
        try
        {
            body = document();
        }
        catch (Exception error) when (error is NibbleException or Microsoft.Data.Sqlite.SqliteException)
        {
            context.Response.StatusCode = StatusOf(error);
            body = new { Error = error.Message };
        }

        return Send(context, "application/json; charset=utf-8", JsonSerializer.SerializeToUtf8Bytes(body, RunDocuments.Json));
    }

    private static int StatusOf(Exception error) => error is NibbleException known
        ? known.Kind switch { ErrorKind.NotFound => StatusCodes.Status404NotFound, ErrorKind.Usage => StatusCodes.Status400BadRequest, _ => StatusCodes.Status500InternalServerError }
        : StatusCodes.Status503ServiceUnavailable;

    private static async Task SendReport(HttpContext context, RunDocuments documents)
    {
        try
        {
            if (documents.Report(IdOf(context)) is { } path)
            {
                byte[] report = await File.ReadAllBytesAsync(path, context.RequestAborted).ConfigureAwait(false);
                context.Response.Headers.ContentSecurityPolicy = ReportPolicy;
                await Send(context, "text/html; charset=utf-8", report).ConfigureAwait(false);
                return;
            }

            await Refuse(StatusCodes.Status404NotFound, "this run has no report, or it is not where it was written any more").ConfigureAwait(false);
        }
        catch (Exception error) when (error is NibbleException or Microsoft.Data.Sqlite.SqliteException)
        {
            await Refuse(StatusOf(error), error.Message).ConfigureAwait(false);
        }

        Task Refuse(int status, string why)
        {
            context.Response.StatusCode = status;
            return Send(context, "text/plain; charset=utf-8", System.Text.Encoding.UTF8.GetBytes(why + "\n"));
        }
    }

    /// <summary>The charts as they are stored: compressed.</summary>
    private static async Task SendCharts(HttpContext context)
    {
        using Stream stored = typeof(HtmlReport).Assembly.GetManifestResourceStream("Nibble.Runs.Assets.echarts.min.js.gz")!;
        bool compressed = context.Request.Headers.AcceptEncoding.ToString().Contains("gzip", StringComparison.Ordinal);
        using MemoryStream content = new();
        using Stream source = compressed ? stored : new GZipStream(stored, CompressionMode.Decompress);
        await source.CopyToAsync(content).ConfigureAwait(false);
        if (compressed)
        {
            context.Response.Headers.ContentEncoding = "gzip";
        }

        await Send(context, Script, content.ToArray()).ConfigureAwait(false);
    }

    private static Task Send(HttpContext context, string type, byte[] content)
    {
        context.Response.ContentType = type;
        context.Response.ContentLength = content.Length;
        return HttpMethods.IsHead(context.Request.Method) ? Task.CompletedTask : context.Response.Body.WriteAsync(content, context.RequestAborted).AsTask();
    }

    private static byte[] Asset(string name)
    {
        using Stream stored = typeof(DashboardServer).Assembly.GetManifestResourceStream("Nibble.Server.Dashboard.Assets." + name)!;
        using MemoryStream content = new();
        stored.CopyTo(content);
        return content.ToArray();
    }
}
