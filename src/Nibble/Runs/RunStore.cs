using Dapper;
using Microsoft.Data.Sqlite;
using Nibble.IO;

namespace Nibble.Runs;

/// <summary>One run as the store lists it.</summary>
/// <param name="Id">Number of the run.</param>
/// <param name="Kind">eval, compare, finetune …</param>
/// <param name="Started">When, UTC, ISO 8601.</param>
/// <param name="Finished">When, or null.</param>
/// <param name="Status">running, finished, failed.</param>
/// <param name="Model">The model's name.</param>
/// <param name="Method">The method.</param>
/// <param name="Configuration">JSON of everything that was chosen.</param>
/// <param name="Environment">JSON of machine and versions.</param>
public sealed record RunRecord(
    long Id, string Kind, string Started, string? Finished, string Status, string Model, string Method, string Configuration, string Environment);

/// <summary>A number of a run; <paramref name="Step"/> counts steps of a training and is 0 elsewhere.</summary>
/// <param name="Name">Metric.</param>
/// <param name="Step">Step.</param>
/// <param name="Value">Value.</param>
/// <param name="Low">Lower end of its interval.</param>
/// <param name="High">Upper end of its interval.</param>
public sealed record RunMetric(string Name, long Step, double Value, double? Low = null, double? High = null);

/// <summary>A file that a run made.</summary>
/// <param name="Name">What it is.</param>
/// <param name="Path">Where it is.</param>
/// <param name="Bytes">Its size.</param>
public sealed record RunArtefact(string Name, string Path, long Bytes);

/// <summary>Every run on this machine in one SQLite file: configuration, environment, metrics, artefacts. Several processes may write to it.</summary>
public sealed class RunStore : IDisposable
{
    /// <summary>Another file than the user's own, or <c>off</c>.</summary>
    public const string EnvironmentVariable = "NIBBLE_RUNS";

    private const string Schema = """
        create table if not exists runs(
          id integer primary key, kind text not null, started text not null, finished text, status text not null,
          model text not null, method text not null, configuration text not null, environment text not null);
        create table if not exists metrics(
          run integer not null references runs(id) on delete cascade, name text not null, step integer not null,
          value real not null, low real, high real, primary key(run, name, step)) without rowid;
        create table if not exists artefacts(
          run integer not null references runs(id) on delete cascade, name text not null, path text not null, bytes integer not null);
        """;

    private readonly SqliteConnection _connection;

    private RunStore(SqliteConnection connection) => _connection = connection;

    /// <summary>The store of this user; null where it was switched off.</summary>
    public static string? DefaultPath => Environment.GetEnvironmentVariable(EnvironmentVariable) switch
    {
        "off" => null,
        { Length: > 0 } path => path,
        _ => Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify), "nibble", "runs.db"),
    };

    /// <summary>Opens a store, and makes it if there is none.</summary>
    public static RunStore Open(string path)
    {
        SqliteConnection? connection = null;
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
            connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, DefaultTimeout = 30, ForeignKeys = true, Pooling = false }.ToString());
            connection.Open();
            connection.Execute("pragma journal_mode = wal");
            connection.Execute(Schema);
            return new RunStore(connection);
        }
        catch (Exception error) when (error is SqliteException or IOException or UnauthorizedAccessException)
        {
            connection?.Dispose();
            throw new NibbleException(ErrorKind.Resource, $"the run store {path} cannot be opened", error.Message, $"choose another file with {EnvironmentVariable}, or 'off'", error);
        }
    }

    /// <summary>Notes that a run starts, and returns its number.</summary>
    public long Start(string kind, string model, string method, string configuration, string environment) => _connection.ExecuteScalar<long>(
        "insert into runs(kind, started, status, model, method, configuration, environment) values(@kind, @now, 'running', @model, @method, @configuration, @environment) returning id",
        new { kind, now = Now(), model, method, configuration, environment });

    /// <summary>Notes that a run has ended.</summary>
    public void Finish(long run, bool succeeded) => _connection.Execute(
        "update runs set finished = @now, status = @status where id = @run", new { run, now = Now(), status = succeeded ? "finished" : "failed" });

    /// <summary>Adds numbers to a run; a number of the same name and step is replaced.</summary>
    public void Add(long run, IEnumerable<RunMetric> metrics)
    {
        using SqliteTransaction transaction = _connection.BeginTransaction();
        foreach (RunMetric metric in metrics)
        {
            _connection.Execute(
                "insert or replace into metrics(run, name, step, value, low, high) values(@run, @Name, @Step, @Value, @Low, @High)",
                new { run, metric.Name, metric.Step, metric.Value, metric.Low, metric.High },
                transaction);
        }

        transaction.Commit();
    }

    /// <summary>Adds a file to a run.</summary>
    public void Add(long run, RunArtefact artefact) => _connection.Execute(
        "insert into artefacts(run, name, path, bytes) values(@run, @Name, @Path, @Bytes)", new { run, artefact.Name, artefact.Path, artefact.Bytes });

    /// <summary>The newest runs first.</summary>
    public IReadOnlyList<RunRecord> List(int most) => [.. _connection.Query<RunRecord>(
        "select id, kind, started, finished, status, model, method, configuration, environment from runs order by id desc limit @most", new { most })];

    /// <summary>One run, or null if there is none of this number.</summary>
    public RunRecord? Find(long run) => _connection.QueryFirstOrDefault<RunRecord>(
        "select id, kind, started, finished, status, model, method, configuration, environment from runs where id = @run", new { run });

    /// <summary>The numbers of a run.</summary>
    public IReadOnlyList<RunMetric> Metrics(long run) => [.. _connection.Query<RunMetric>(
        "select name, step, value, low, high from metrics where run = @run order by name, step", new { run })];

    /// <summary>The files of a run.</summary>
    public IReadOnlyList<RunArtefact> Artefacts(long run) => [.. _connection.Query<RunArtefact>(
        "select name, path, bytes from artefacts where run = @run", new { run })];

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();

    private static string Now() => DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ssZ", System.Globalization.CultureInfo.InvariantCulture);
}
