using Nibble.Evaluation.Texts;
using Nibble.Models;

namespace Nibble.Evaluation.Tasks;

/// <summary>Something that is measured about a model; listed in <see cref="Registry.Tasks"/>.</summary>
public interface IEvaluationTask
{
    /// <summary>The name on the command line and in studies.</summary>
    string Name { get; }

    /// <summary>Measures, and puts numbers into <paramref name="result"/>.</summary>
    void Run(EvaluationContext context, ResultBuilder result);
}

/// <summary>What a task works with.</summary>
/// <param name="Model">The model, loaded and packed.</param>
/// <param name="Options">What the user chose.</param>
/// <param name="Text">The text, read once for all tasks.</param>
/// <param name="Progress">Told what is being done, and which share of it is done.</param>
/// <param name="Cancellation">Stops between steps.</param>
public sealed record EvaluationContext(
    LoadedModel Model, EvaluationOptions Options, Lazy<EvaluationText> Text, Action<string, double> Progress, CancellationToken Cancellation);
