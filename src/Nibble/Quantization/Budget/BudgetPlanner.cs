using Nibble.IO;
using Nibble.Quantization.Calibration;

namespace Nibble.Quantization.Budget;

/// <summary>
/// Mixed precision to a budget: method, bits and group of every matrix of the blocks, so that the expected divergence from the dense
/// model is least within so many bytes. Deterministic: the same model, text and budget give the same plan.
/// </summary>
public static class BudgetPlanner
{
    /// <summary>Makes a plan; nothing is written.</summary>
    /// <param name="input">A dense model folder.</param>
    /// <param name="budget">How large the result may be.</param>
    /// <param name="calibration">The text that sensitivities are measured on.</param>
    /// <param name="settings">A method, and settings of it that all matrices share; null: GPTQ and rtn, whichever has the width.</param>
    /// <param name="others">Overrides that fix some matrices, a layout, what happens to head and embeddings; its settings are not used.</param>
    /// <param name="progress">Called after each measured matrix.</param>
    /// <param name="cancellation">Stops between two matrices.</param>
    /// <exception cref="NibbleException">No plan fits the budget; the message says what the smallest one takes.</exception>
    public static BudgetPlan Create(
        string input, BudgetRequest budget, CalibrationRequest calibration, QuantizationSettings? settings = null, PlanRequest? others = null,
        Action<QuantizationStep>? progress = null, CancellationToken cancellation = default)
    {
        using BudgetProblem problem = BudgetProblem.Open(input, settings, others);
        problem.RequireRoom(budget);
        problem.Measure(calibration, progress, cancellation);
        using BudgetTrials trials = new(input, calibration, cancellation);
        return trials.Best(problem, budget, progress);
    }
}
