namespace Nibble.Backends;

/// <summary>A backend that can record the work of one step and then repeat it at the cost of one call.</summary>
internal interface IStepRecorder
{
    /// <summary>
    /// Records what <paramref name="step"/> queues, without running it: the pass of one new token per row, whose tensors stay where they
    /// are. Null if this device can't.
    /// </summary>
    IRecordedStep? Record(Action step);
}

/// <summary>A recorded step.</summary>
internal interface IRecordedStep : IDisposable
{
    /// <summary>Queues the step again; its token goes to <paramref name="slot"/> of the cache.</summary>
    void Replay(int slot);
}
