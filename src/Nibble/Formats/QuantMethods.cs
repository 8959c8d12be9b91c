using Nibble.IO;

namespace Nibble.Formats;

/// <summary>Recognizes the name of a quantized checkpoint's layout; whether Nibble reads that layout is the registry's matter.</summary>
internal static class QuantMethods
{
    /// <summary>Every <c>quant_method</c> that transformers knows.</summary>
    public static IReadOnlyList<string> Known { get; } =
    [
        "gptq", "awq", "bitsandbytes", "hqq", "bitnet", "compressed-tensors", "fp8", "mxfp4", "torchao", "quanto", "aqlm", "vptq",
        "auto-round", "eetq", "higgs", "fbgemm_fp8", "spqr", "quark", "fp_quant",
    ];

    /// <summary>The method of a section; older writers left the name out, so it is told from their other keys.</summary>
    public static string Recognize(JsonConfig section)
    {
        string? method = section.GetString("quant_method|method", null);
        if (method == null && section.Has("load_in_4bit|load_in_8bit|_load_in_4bit|_load_in_8bit"))
        {
            method = "bitsandbytes";
        }
        else if (method == null && section.Has("bits|w_bit|wbits|q_group_size"))
        {
            method = section.GetString("version", null) is "gemm" or "gemv" or "gemv_fast" || section.Has("w_bit") ? "awq" : "gptq";
        }

        if (method == null)
        {
            Throw.BadInput($"{section.Source}: quantization_config has no quant_method", $"without it the layout is unknown; known are {string.Join(", ", Known)}");
        }

        if (!Known.Contains(method))
        {
            section.Refuse("quant_method|method", $"this quantization layout is unknown; known are {string.Join(", ", Known)}", "convert the model, or use its dense form");
        }

        return method;
    }
}
