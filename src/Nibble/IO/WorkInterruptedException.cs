namespace Nibble.IO;

/// <summary>Work that was cancelled and left something from which it can go on; the message says what, and how.</summary>
/// <param name="message">For the user.</param>
/// <param name="inner">The cancellation.</param>
public sealed class WorkInterruptedException(string message, Exception inner) : OperationCanceledException(message, inner);
