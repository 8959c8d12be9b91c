using Dapper;
using Microsoft.Data.Sqlite;
using Nibble.IO;

namespace Nibble.Runs;

/// <summary>Every run on this machine in one SQLite file: configuration, environment, metrics, artefacts. Several processes may write to it.</summary>
public sealed class RunStore : IDisposable
{
    /// <summary>Another file than the user's own, or <c>off</c>.</summary>
    public const string EnvironmentVariable = "NIBBLE_RUNS";

    private const string Columns = "id, kind, started, finished, status, model, method, configuration, environment, output, resumes, progress, note, beat, process";

    private readonly SqliteConnection _connection;

    private RunStore(SqliteConnection connection) => _connection = connection;

    /// <summary>The store of this user; null where it was switched off.</summary>
    public static string? DefaultPath => Environment.GetEnvironmentVariable(EnvironmentVariable) switch
    {
        "off" => null,
        { Length: > 0 } path => path,
        _ => Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify), "nibble", "runs.db"),
    };

    /// <summary>Opens a store, and makes it if there is none; one of an older version gets today's tables.</summary>
    /// <exception cref="NibbleException">It cannot be read or written, is none, or was made by a newer Nibble.</exception>
    public static RunStore Open(string path)
    {
        SqliteConnection? connection = null;
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
            connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, DefaultTimeout = 30, ForeignKeys = true, Pooling = false }.ToString());
            connection.Open();
            connection.Execute("pragma journal_mode = wal");
            // With a write-ahead log this never damages the file; a power cut may cost the last seconds.
            connection.Execute("pragma synchronous = normal");
            RunSchema.Update(connection);
            return new RunStore(connection);
        }
        catch (Exception error) when (error is SqliteException or IOException or UnauthorizedAccessException)
        {
            connection?.Dispose();
            throw new NibbleException(ErrorKind.Resource, $"the run store {path} cannot be opened", error.Message, $"choose another file with {EnvironmentVariable}, or 'off'", error);
        }
        catch (NibbleException)
        {
            connection?.Dispose();
            throw;
        }
    }

    /// <summary>Notes that a run starts in this process, and returns its number.</summary>
    public long Start(NewRun run) => _connection.ExecuteScalar<long>(
        """
        insert into runs(kind, started, status, model, method, configuration, environment, output, resumes, beat, process)
        values(@Kind, @now, 'running', @Model, @Method, @Configuration, @Environment, @Output, @Resumes, @now, @process) returning id
        """,
        new { now = Now(), run.Kind, run.Model, run.Method, run.Configuration, run.Environment, run.Output, run.Resumes, process = RunProcess.Current });

    /// <summary>A sign of life, with the share that is done where it is known.</summary>
    public void Beat(long run, double? progress) => _connection.Execute(
        "update runs set beat = @now, progress = coalesce(@progress, progress) where id = @run", new { run, now = Now(), progress });

    /// <summary>Notes that a run has ended.</summary>
    public void Finish(long run, RunEnd end, string? note = null) => _connection.Execute(
        "update runs set finished = @now, status = @status, note = @note, progress = case when @status = 'finished' and progress is not null then 1 else progress end where id = @run",
        new { run, now = Now(), status = end.ToString().ToLowerInvariant(), note });

    /// <summary>Takes runs out again, with all that belongs to them: all or none. Files that they made stay.</summary>
    public void Remove(params IReadOnlyCollection<long> runs)
    {
        using SqliteTransaction transaction = _connection.BeginTransaction();
        _connection.Execute("delete from runs where id in @runs", new { runs }, transaction);
        // The number of the newest run is given again: nobody may seem to go on from that.
        _connection.Execute("update runs set resumes = null where resumes in @runs", new { runs }, transaction);
        transaction.Commit();
    }

    /// <summary>Adds numbers to a run; a number of the same name and step is replaced, and what is no finite number is left out.</summary>
    public void Add(long run, IEnumerable<RunMetric> metrics)
    {
        using SqliteTransaction transaction = _connection.BeginTransaction();
        foreach (RunMetric metric in metrics.Where(metric => double.IsFinite(metric.Value)))
        {
            _connection.Execute(
                "insert or replace into metrics(run, name, step, value, low, high) values(@run, @Name, @Step, @Value, @Low, @High)",
                new { run, metric.Name, metric.Step, metric.Value, metric.Low, metric.High },
                transaction);
        }

        transaction.Commit();
    }

    /// <summary>Says which files a run made, in place of those that were known.</summary>
    public void Replace(long run, IEnumerable<RunArtefact> artefacts)
    {
        using SqliteTransaction transaction = _connection.BeginTransaction();
        _connection.Execute("delete from artefacts where run = @run", new { run }, transaction);
        foreach (RunArtefact artefact in artefacts)
        {
            _connection.Execute(
                "insert into artefacts(run, name, path, bytes) values(@run, @Name, @Path, @Bytes)", new { run, artefact.Name, artefact.Path, artefact.Bytes }, transaction);
        }

        transaction.Commit();
    }

    /// <summary>The newest runs first.</summary>
    public IReadOnlyList<RunRecord> List(int most, RunFilter? filter = null)
    {
        filter ??= new RunFilter();
        // Which of the running ones are lost, the file does not say.
        bool judged = filter.Status is RunRecord.Running or RunRecord.Lost;
        IEnumerable<RunRecord> found = _connection.Query<Row>(
            $"""
            select {Columns} from runs
            where (@Kind is null or kind = @Kind) and (@Model is null or model = @Model) and (@Method is null or method = @Method)
              and (@status is null or status = @status) and (@Before is null or id < @Before)
              and (@Text is null or instr(lower(kind || ' ' || model || ' ' || method || ' ' || coalesce(output, '') || ' ' || coalesce(note, '') || ' ' || configuration), lower(@Text)) > 0)
            order by id desc limit @most
            """,
            new { filter.Kind, filter.Model, filter.Method, filter.Before, filter.Text, status = judged ? RunRecord.Running : filter.Status, most = judged ? -1 : most }).Select(row => row.Judged());
        return [.. found.Where(run => filter.Status is null || run.Status == filter.Status).Take(most)];
    }

    /// <summary>One run, or null if there is none of this number.</summary>
    public RunRecord? Find(long run) => _connection.QueryFirstOrDefault<Row>($"select {Columns} from runs where id = @run", new { run })?.Judged();

    /// <summary>The newest run of a kind that writes or wrote to a place, or null.</summary>
    public RunRecord? FindOutput(string kind, string output) => _connection.QueryFirstOrDefault<Row>(
        $"select {Columns} from runs where output = @output and kind = @kind order by id desc limit 1", new { kind, output })?.Judged();

    /// <summary>The newest run of a kind that wrote to a place and has this <c>key</c> in its configuration, or null.</summary>
    public long? FindKey(string kind, string output, string key) => _connection.QueryFirstOrDefault<long?>(
        "select id from runs where output = @output and kind = @kind and json_valid(configuration) and json_extract(configuration, '$.key') = @key order by id desc limit 1", new { kind, output, key });

    /// <summary>The numbers of a run.</summary>
    public IReadOnlyList<RunMetric> Metrics(long run) => Finite(_connection.Query<RunMetric>(
        "select name, step, value, low, high from metrics where run = @run order by name, step", new { run }));

    /// <summary>One metric of a run by its steps.</summary>
    public IReadOnlyList<RunMetric> Metric(long run, string name) => Finite(_connection.Query<RunMetric>(
        "select name, step, value, low, high from metrics where run = @run and name = @name order by step", new { run, name }));

    /// <summary>The newest run that went on from another one, or null.</summary>
    public long? ResumedBy(long run) => _connection.QueryFirstOrDefault<long?>("select id from runs where resumes = @run order by id desc limit 1", new { run });

    /// <summary>The files of a run.</summary>
    public IReadOnlyList<RunArtefact> Artefacts(long run) => [.. _connection.Query<RunArtefact>(
        "select name, path, bytes from artefacts where run = @run", new { run })];

    /// <summary>The values that a column has.</summary>
    internal IReadOnlyList<string> Distinct(string column) => [.. _connection.Query<string>($"select distinct {column} from runs order by {column} limit 1000")];

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();

    // Other programs, and older versions, may have put in what no document can say.
    private static IReadOnlyList<RunMetric> Finite(IEnumerable<RunMetric> metrics) =>
        [.. metrics.Where(metric => double.IsFinite(metric.Value)).Select(metric => double.IsFinite(metric.Low ?? 0) && double.IsFinite(metric.High ?? 0) ? metric : metric with { Low = null, High = null })];

    private static string Now() => DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ssZ", System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>A line of the table, as it stands there.</summary>
    private sealed class Row
    {
        public long Id { get; set; }

        public string Kind { get; set; } = string.Empty;

        public string Started { get; set; } = string.Empty;

        public string? Finished { get; set; }

        public string Status { get; set; } = string.Empty;

        public string Model { get; set; } = string.Empty;

        public string Method { get; set; } = string.Empty;

        public string Configuration { get; set; } = string.Empty;

        public string Environment { get; set; } = string.Empty;

        public string? Output { get; set; }

        public long? Resumes { get; set; }

        public double? Progress { get; set; }

        public string? Note { get; set; }

        public string? Beat { get; set; }

        public string? Process { get; set; }

        public RunRecord Judged() => new(
            Id, Kind, Started, Finished, Status == RunRecord.Running && !RunProcess.IsAlive(Process, Beat) ? RunRecord.Lost : Status, Model, Method, Configuration, Environment, Output, Resumes,
            Progress is >= 0 and <= 1 ? Progress : null, Note, Beat);
    }
}
