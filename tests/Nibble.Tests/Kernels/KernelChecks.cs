namespace Nibble.Tests.Kernels;

/// <summary>All checks, in the order in which verify-kernels prints them.</summary>
internal static class KernelChecks
{
    public static IReadOnlyList<KernelCheck> All { get; } = [.. MatMulChecks.All, .. GramChecks.All, .. RowChecks.All, .. AttentionChecks.All, .. PackingChecks.All, .. Int8Checks.All];
}
