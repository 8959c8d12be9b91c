namespace Nibble.Quantization.Budget;

/// <summary>What a budget gave one matrix.</summary>
/// <param name="Tensor">The matrix and its settings.</param>
/// <param name="Bytes">Stored bytes.</param>
/// <param name="Loss">Expected KL divergence from the dense model, if this matrix alone were quantized.</param>
public sealed record BudgetChoice(PlannedTensor Tensor, long Bytes, double Loss);

/// <summary>The result of planning within a budget.</summary>
/// <param name="Request">The plan as a request for <see cref="Quantizer"/>: an override for each matrix.</param>
/// <param name="Choices">The matrices that were chosen for.</param>
/// <param name="Capacity">Bytes that were there for them.</param>
/// <param name="ExpectedLoss">Sum of the expected divergences: a model of the whole divergence, in which matrices do not interact.</param>
/// <param name="LowerBound">No plan of these candidates within the budget has a smaller sum; equal to it where the solution is exact.</param>
public sealed record BudgetPlan(PlanRequest Request, IReadOnlyList<BudgetChoice> Choices, long Capacity, double ExpectedLoss, double LowerBound)
{
    /// <summary>The plans that were carried out and measured; empty where the sum of expected losses alone decided.</summary>
    public IReadOnlyList<BudgetTrial> Trials { get; init; } = [];

    /// <summary>Which of <see cref="Trials"/> this plan is.</summary>
    public int Chosen { get; init; }

    /// <summary>Bytes of the chosen matrices.</summary>
    public long Bytes => Choices.Sum(choice => choice.Bytes);

    /// <summary>Their bits per weight: a little less than <see cref="Bytes"/>, which hold shapes and padding as well.</summary>
    public double BitsPerWeight => Choices.Sum(choice => (double)choice.Tensor.Facts!.StoredBits) / Choices.Sum(choice => choice.Tensor.Count);
}
