using System.Runtime.InteropServices;
using Nibble.IO;

namespace Nibble.Backends.Cuda.Driver;

/// <summary>Turns the codes of NVIDIA's libraries into errors that name the call, the code, its text and a remedy.</summary>
internal static class CudaErrors
{
    public const int OutOfMemory = 2;

    /// <summary>cuBLASLt has no algorithm for a product.</summary>
    public const int NoAlgorithm = 15;

    private const int NoDevice = 100;

    /// <summary>Throws unless a call of the driver succeeded.</summary>
    public static void Check(int code, string call)
    {
        if (code != 0)
        {
            throw new NibbleException(ErrorKind.Failed, $"{call} failed: {Name(code)} ({code})", Text(code), Remedy(code));
        }
    }

    /// <summary>Throws unless a call of NVRTC succeeded.</summary>
    public static void CheckNvrtc(int code, string call, string? log = null)
    {
        if (code != 0)
        {
            throw new NibbleException(
                ErrorKind.Failed, $"{call} failed: {NvrtcApi.Text(code)} ({code})", log, "report this with the output of nibble doctor: kernels should compile on any card");
        }
    }

    /// <summary>Throws unless a call of cuBLASLt succeeded.</summary>
    public static void CheckCublas(int code, string call)
    {
        if (code != 0)
        {
            string text = code switch
            {
                1 => "not initialized",
                3 => "memory could not be allocated",
                7 => "a value that cuBLASLt does not accept",
                8 => "the card lacks a feature",
                13 => "the product failed on the card",
                NoAlgorithm => "no algorithm for this product",
                _ => "see cublasStatus_t in NVIDIA's documentation",
            };
            throw new NibbleException(ErrorKind.Failed, $"{call} failed: status {code}", text, "report this with the output of nibble doctor, or use --device cpu");
        }
    }

    private static string Name(int code) =>
        DriverApi.cuGetErrorName(code, out nint text) == 0 ? Marshal.PtrToStringUTF8(text) ?? "unknown error" : "unknown error";

    private static string? Text(int code) => DriverApi.cuGetErrorString(code, out nint text) == 0 ? Marshal.PtrToStringUTF8(text) : null;

    private static string Remedy(int code) => code switch
    {
        OutOfMemory => "use a smaller batch or context, or a method with fewer bits; nvidia-smi shows what other programs hold",
        NoDevice => "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu",
        218 or 222 or 209 => "the driver does not take this code: update the driver, or delete the kernel cache that nibble doctor names",
        700 or 716 or 719 => "a kernel read or wrote outside its memory: run the bench cuda-verify under compute-sanitizer and report it",
        802 or 803 or 804 or 35 => "driver and libraries do not fit together: update the driver",
        _ => "run nibble doctor; a card in a bad state recovers when its processes end",
    };
}
