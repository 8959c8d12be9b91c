using System.Diagnostics;
using Nibble.Hub;

namespace Nibble.Cli;

/// <summary>The state of a download: one line that is written over on a terminal; a line for each file elsewhere.</summary>
internal sealed class PullProgress : IDisposable
{
    private readonly HubDownload _download;
    private readonly long _bytes;
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly Timer? _timer;
    private readonly Lock _console = new();
    private bool _ended;

    public PullProgress(HubDownload download, long bytes)
    {
        (_download, _bytes) = (download, bytes);
        _timer = Console.IsErrorRedirected || bytes == 0 ? null : new Timer(_ => Draw(), null, 500, 500);
    }

    public void Tell(HubFile file, bool waits) => Line(waits ? $"{file.Path} is being downloaded by another process: waiting for it" : $"{file.Path}  {Sizes.Text(file.Bytes)}");

    public void Dispose()
    {
        lock (_console)
        {
            _ended = true;
            _timer?.Dispose();
            Clear();
        }
    }

    private void Line(string text)
    {
        lock (_console)
        {
            Clear();
            Console.Error.WriteLine(text);
        }
    }

    private void Draw()
    {
        lock (_console)
        {
            if (_ended)
            {
                return;
            }

            long received = _download.ReceivedBytes;
            double rate = received / Stopwatch.GetElapsedTime(_start).TotalSeconds;
            string left = rate > 0 ? $", {TimeSpan.FromSeconds(Math.Min((_bytes - received) / rate, 359_999)):h\\:mm\\:ss} left" : string.Empty;
            Clear();
            Console.Error.Write($"{Sizes.Text(received)} of {Sizes.Text(_bytes)}, {Sizes.Text((long)rate)}/s{left}");
        }
    }

    private void Clear()
    {
        if (_timer is not null)
        {
            Console.Error.Write("\r\x1b[K");
        }
    }
}
