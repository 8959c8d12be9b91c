using Nibble.Evaluation;
using Nibble.Formats;
using Nibble.Hub;
using Nibble.IO;
using Nibble.Models;
using Nibble.Runs.Studies;
using Nibble.Tensors;

namespace Nibble.Runs.Recommending;

/// <summary>Finds how to run a model within a memory: counts what each form takes, measures those that fit on a text, beside the model as it is, and chooses by the numbers.</summary>
public sealed class Recommender
{
    // Above this share of the machine's memory measuring is not begun.
    private const double Measurable = 0.9;

    private readonly RecommendRequest _request;
    private readonly ModelSizes _sizes;
    private readonly DType _stored;
    private readonly List<RecommendCandidate> _unmeasured = [];

    private Recommender(RecommendRequest request, ModelConfig config)
    {
        (_request, _sizes, _stored) = (request, ModelSizes.Of(config), config.StoredDType);
        Context = RunningMemory.ContextOf(_sizes.Facts, request);
    }

    /// <summary>Tokens that room is made for.</summary>
    public int Context { get; }

    /// <summary>What will be measured: the model as it is and the forms that fit, as far as the time goes; null where nothing fits or the model can't be measured on this machine.</summary>
    public StudyPlan? Plan { get; private set; }

    /// <summary>Counts and plans; reads the model's configuration and the text, not its weights.</summary>
    /// <param name="request">What is wanted.</param>
    /// <param name="machineBytes">Memory of the device that measures.</param>
    /// <exception cref="NibbleException">The request makes no sense, or the model or the text is not there or of no known kind.</exception>
    public static Recommender Of(RecommendRequest request, long machineBytes)
    {
        request.Require();
        ModelConfig config = ModelConfig.Open(request.Model);
        if (config.QuantMethod is { } method)
        {
            Throw.Usage($"{request.Model} is quantized already ({method})", "other forms are made from dense weights", "give the model that it was made from");
        }

        Recommender recommender = new(request, config);
        recommender.Prepare(machineBytes);
        return recommender;
    }

    /// <summary>Chooses by what was measured.</summary>
    /// <param name="results">Results of <see cref="Plan"/>; null where there is none.</param>
    public Recommendation Choose(StudyResults? results)
    {
        IEnumerable<RecommendCandidate> measured = Plan is null ? [] : Plan.Cells.Select(cell =>
        {
            ResultDocument? result = results?.Cells.FirstOrDefault(one => one.Key == cell.Key);
            string? failure = results?.Failures.FirstOrDefault(one => one.Label == cell.Method.Label)?.Error.Split('\n')[0];
            return Candidate(cell.Method, result, result is null ? failure ?? "it was not measured" : null);
        });
        return Recommendation.Of(_request, Context, [.. measured.Concat(_unmeasured).OrderByDescending(candidate => candidate.Memory.WeightBytes)]);
    }

    private void Prepare(long machineBytes)
    {
        RunningMemory own = RunningMemory.Of(_sizes, _stored, Candidates.Own(_request), _request);
        long dense = (_sizes.Parameters.Total - _sizes.Parameters.Blocks) * _stored.Size();
        IEnumerable<StudyMethod> all = Candidates.Budget(_sizes, own, dense, _request) is { } budget ? Candidates.Others(_request).Append(budget) : Candidates.Others(_request);
        ILookup<bool, StudyMethod> fits = all.ToLookup(method => Fits(RunningMemory.Of(_sizes, _stored, method, _request)));
        LeaveOut(fits[false], "it does not fit");
        // The weights are quantized from their own form, so that has to be loaded; F32 copies of one matrix at a time are small beside it.
        if (own.WeightBytes > Measurable * machineBytes)
        {
            LeaveOut(fits[true].Prepend(Candidates.Own(_request)), $"the model as it is takes {own.WeightBytes:N0} bytes, this device has {machineBytes:N0}: nothing can be compared with it here");
        }
        else if (!fits[true].Any() && !Fits(own))
        {
            LeaveOut([Candidates.Own(_request)], "it does not fit");
        }
        else
        {
            Plan = Within(StudyPlan.Of(Study([Candidates.Own(_request), .. fits[true]])));
        }
    }

    // The ladder's order is that of promise; a plan of a budget, the dearest to make, is the last.
    private StudyPlan Within(StudyPlan whole)
    {
        List<StudyCell> cells = [];
        double seconds = 0;
        foreach (StudyCell cell in whole.Cells)
        {
            if (cells.Count > 1 && seconds + cell.Estimate.Seconds > _request.Seconds)
            {
                LeaveOut([cell.Method], $"measuring it takes roughly {cell.Estimate.Seconds:N0} s, and {Math.Max(0, _request.Seconds - seconds):N0} of the {_request.Seconds:N0} s that were given are left");
                continue;
            }

            seconds += cell.Estimate.Seconds;
            cells.Add(cell);
        }

        return whole with { Cells = cells };
    }

    private Study Study(IReadOnlyList<StudyMethod> methods) => new(
        $"{HubCache.Called(_request.Model)} within {_request.MemoryBytes:N0} bytes", null, _request.Model, [new StudyModel(HubCache.Called(_request.Model), Path.GetFullPath(_request.Model))], methods,
        new EvaluationOptions { Tasks = ["perplexity", "latency"], Data = _request.Data, Window = Math.Min(512, _sizes.Facts.Context), Limit = _request.Limit, DecodeTokens = 32, Runs = 3 }, _request.Device, _request.Threads)
    {
        Calibration = _request.Calibration,
    };

    private bool Fits(RunningMemory memory) => memory.TotalBytes <= _request.MemoryBytes;

    private void LeaveOut(IEnumerable<StudyMethod> methods, string why) => _unmeasured.AddRange(methods.Select(method => Candidate(method, null, why)));

    private RecommendCandidate Candidate(StudyMethod method, ResultDocument? result, string? leftOut)
    {
        RunningMemory memory = RunningMemory.Of(_sizes, _stored, method, _request);
        memory = result?.Metrics.TryGetValue("weight_bytes", out double bytes) == true ? memory with { WeightBytes = (long)bytes } : memory;
        Study study = Study([]);
        return new RecommendCandidate(method, memory, Fits(memory), StudyCell.QuantizeFor(study, study.Models[0], method), result, leftOut);
    }
}
