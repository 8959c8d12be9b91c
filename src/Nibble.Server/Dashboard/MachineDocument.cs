using Nibble.Backends;
using Nibble.Evaluation;

namespace Nibble.Server.Dashboard;

/// <summary>What this machine is and what works on it: <c>nibble devices</c> and <c>nibble doctor</c>.</summary>
internal sealed class MachineDocument
{
    // The checks start compilers and load drivers: once is enough for a page that is looked at.
    private readonly Lazy<(IReadOnlyList<object> Devices, IReadOnlyList<Finding> Findings)> _checked = new(() => ([MachineFacts.Read(), .. CardFacts.All()], Diagnosis.Run()));

    /// <summary>The document.</summary>
    public object Read(string store) => new
    {
        Schema = 1,
        _checked.Value.Devices,
        MemoryAvailableBytes = Available(),
        Environment = EnvironmentFacts.Read(),
        Findings = _checked.Value.Findings.Select(finding => new { finding.Check, State = finding.State.ToString().ToLowerInvariant(), finding.Found, finding.Remedy }),
        Store = store,
        StoreBytes = File.Exists(store) ? new FileInfo(store).Length : (long?)null,
    };

    /// <summary>What Linux says can be had without swapping; null elsewhere.</summary>
    private static long? Available()
    {
        const string facts = "/proc/meminfo";
        return File.Exists(facts) ? PeakMemory.Field("\n" + File.ReadAllText(facts), "MemAvailable:") : null;
    }
}
