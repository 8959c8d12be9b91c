using Dapper;
using Microsoft.Data.Sqlite;
using Nibble.IO;

namespace Nibble.Runs;

/// <summary>The tables of a run store and how those of older versions become today's; the file's <c>user_version</c> says which it has.</summary>
internal static class RunSchema
{
    // One entry a version; what stands here never changes, as files of every version are about. The first files had no version.
    private static readonly string[] Versions =
    [
        """
        create table if not exists runs(
          id integer primary key, kind text not null, started text not null, finished text, status text not null,
          model text not null, method text not null, configuration text not null, environment text not null);
        create table if not exists metrics(
          run integer not null references runs(id) on delete cascade, name text not null, step integer not null,
          value real not null, low real, high real, primary key(run, name, step)) without rowid;
        create table if not exists artefacts(
          run integer not null references runs(id) on delete cascade, name text not null, path text not null, bytes integer not null);
        """,
        """
        alter table runs add column output text;
        alter table runs add column resumes integer;
        alter table runs add column progress real;
        alter table runs add column note text;
        alter table runs add column beat text;
        alter table runs add column process text;
        create index artefacts_of_run on artefacts(run);
        create index runs_of_output on runs(output);
        """,
    ];

    /// <summary>Brings a file to today's tables; several processes may try at once.</summary>
    /// <exception cref="NibbleException">A newer Nibble made it.</exception>
    public static void Update(SqliteConnection connection)
    {
        if (Version(connection) == Versions.Length)
        {
            return;
        }

        // The lock comes first: whoever waited for it finds the work done.
        using SqliteTransaction transaction = connection.BeginTransaction(deferred: false);
        int version = Version(connection, transaction);
        if (version > Versions.Length)
        {
            throw new NibbleException(
                ErrorKind.BadInput, $"the run store {connection.DataSource} has tables of version {version}", $"this Nibble knows versions up to {Versions.Length}: a newer one made it",
                $"use the newer Nibble, or another file with {RunStore.EnvironmentVariable}");
        }

        foreach (string change in Versions.Skip(version))
        {
            connection.Execute(change, transaction: transaction);
        }

        connection.Execute($"pragma user_version = {Versions.Length}", transaction: transaction);
        transaction.Commit();
    }

    private static int Version(SqliteConnection connection, SqliteTransaction? transaction = null) => connection.ExecuteScalar<int>("pragma user_version", transaction: transaction);
}
