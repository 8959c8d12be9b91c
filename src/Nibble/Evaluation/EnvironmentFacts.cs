using System.Reflection;
using System.Runtime.InteropServices;
using Nibble.Backends;

namespace Nibble.Evaluation;

/// <summary>Facts about this machine and this build of Nibble.</summary>
public static class EnvironmentFacts
{
    /// <summary>Reads them.</summary>
    public static MeasuredEnvironment Read()
    {
        MachineFacts machine = MachineFacts.Read();
        // "0.1.0+<commit>": the build puts the commit behind the version where it knows it.
        string[] version = (typeof(EnvironmentFacts).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown").Split('+');
        return new MeasuredEnvironment(
            machine.Processor, machine.Cores, null, version[0], version.Length > 1 ? version[1] : null, RuntimeInformation.FrameworkDescription, RuntimeInformation.OSDescription);
    }
}
