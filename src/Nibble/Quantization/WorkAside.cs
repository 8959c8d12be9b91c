namespace Nibble.Quantization;

/// <summary>
/// Work that a processor does while a device goes on: one thing after another, in the order in which it came, and never more than a few in
/// waiting, since each holds a matrix. An error stops all work behind it and is thrown where somebody waits or adds.
/// </summary>
/// <param name="isInline">True: nothing waits, everything is done at once by the caller.</param>
internal sealed class WorkAside(bool isInline) : IDisposable
{
    private const int MostWaiting = 3;
    private readonly SemaphoreSlim _room = new(MostWaiting);
    private Task _last = Task.CompletedTask;

    /// <summary>Adds work; waits while too much is waiting.</summary>
    public void Add(Action work)
    {
        if (isInline)
        {
            work();
            return;
        }

        _room.Wait();
        Task before = _last;
        if (before.IsFaulted)
        {
            Wait();
        }

        _last = Task.Run(async () =>
        {
            try
            {
                await before.ConfigureAwait(false);
                work();
            }
            finally
            {
                _room.Release();
            }
        });
    }

    /// <summary>Waits until everything is done.</summary>
    public void Wait() => _last.GetAwaiter().GetResult();

    /// <summary>Waits without a word about errors: somebody else's is on its way.</summary>
    public void Dispose()
    {
        ((IAsyncResult)_last).AsyncWaitHandle.WaitOne();
        _room.Dispose();
    }
}
