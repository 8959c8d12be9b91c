using Nibble.Backends.Cuda.Driver;

namespace Nibble.Backends.Cuda;

/// <summary>Every kernel, by source. The sources are embedded (<c>Kernels/*.cu</c>) and compiled for the card at hand.</summary>
internal static class CudaKernelNames
{
    /// <summary>Ends the name of a format in groups of 32 columns.</summary>
    public const string Small = "_small";

    /// <summary>Rows of x for which a product has a kernel of its own.</summary>
    public static readonly int[] GemvRows = [1, 2, 4, 8];

    /// <summary>Rows of x, in eights, for which the product on tensor cores has a kernel.</summary>
    public static readonly int[] ManyEights = [2, 4, 8];

    /// <summary>Rows of x that a tile of a product by warpgroups has.</summary>
    public static readonly int[] WideRows = [64, 128, 256];

    /// <summary>The same for sums of integers.</summary>
    public static readonly int[] Int8WideRows = [128, 256];

    /// <summary>Formats that have products by warpgroups; small: in groups of 32 columns.</summary>
    public static readonly string[] WideFormats =
        [.. new[] { "codebook4", "affine4", "affine8", "affine3", "affine2" }.SelectMany(format => new[] { format, format + Small })];

    /// <summary>Rows of x, in eights, for which the product of integers has a kernel.</summary>
    public static readonly int[] Int8Eights = [1, 2, 4, 8];

    /// <summary>Elements of a row of a head that a lane owns, in 32.</summary>
    public static readonly int[] AttentionDims = [1, 2, 4, 8];

    /// <summary>Widths of heads that attention on tensor cores is made for; narrower ones are filled up with zeros.</summary>
    public static readonly int[] FlashWidths = [64, 128];

    private static readonly (string Source, string[] Names)[] Plain =
    [
        ("elementwise",
        [
            "add", "scale", "fill", "gelu_exact", "gelu_tanh", "swiglu", "squared_relu_gate", "gelu_exact_gradient", "gelu_tanh_gradient",
            "swiglu_gradient", "squared_relu_gate_gradient", "dropout", "to_bf16_copy", "to_f16_copy", "fill_rows", "adamw", "sum_of_squares",
        ]),
        ("rows",
        [
            "norm", "norm_gradient", "norm_gradient_weight", "scale_columns", "sum_rows", "sum_row_chunks", "softmax", "rope", "append_to_cache",
            "append_to_cache_gradient", "copy_columns", "copy_columns_gradient", "gather_gradient",
        ]),
        ("loss", ["log_likelihood", "cross_entropy"]),
        ("int8", ["outlier_columns", "round_rows", "round_rows_in_part"]),
        ("optimizer", ["adamw8bit", "adamw_many", "sum_of_squares_many", "muon_velocity", "muon_start", "muon_finish"]),
        ("half",
        [
            "copy_fb", "copy_bf", "copy_many_fb", "add_fb", "add_bf", "add_bb", "scale_b", "dropout_b", "gelu_exact_b", "gelu_tanh_b", "gelu_exact_gradient_b",
            "gelu_tanh_gradient_b", "swiglu_b", "squared_relu_gate_b", "swiglu_gradient_b", "squared_relu_gate_gradient_b", "norm_fb", "norm_bb",
            "norm_gradient_fb", "norm_gradient_bb", "norm_gradient_weight_fb", "norm_gradient_weight_bb", "sum_row_chunks_b", "rope_b",
            "append_to_cache_fb", "append_to_cache_bb", "append_to_cache_gradient_bf", "append_to_cache_gradient_bb", "copy_columns_b",
            "copy_columns_gradient_b", "cross_entropy_b",
        ]),
        ("training", ["norm_kept", "norm_kept_gradient", "norm_kept_gradient_sums", "sum_row_eights", "sum_partial_rows", "clear_many"]),
        ("tensor", ["half_rows"]),
        ("wide", ["wide_rows"]),
        ("quantize",
        [
            "widen", "codebook_codes", "codebook_values", "affine_codes", "affine_values", "hqq_solve", "hqq_sum", "hqq_finish", "row_magnitudes", "weight_error",
            "turn_f32", "turn_u8", "blend_values",
        ]),
        ("gptq",
        [
            "mirror", "diagonal", "magnitude_chunks", "add_magnitudes", "damped_hessian", "factor_block", "place_block", "turn_factor", "visit_columns", "place_codes",
            "group_grids", "gptq_panel",
        ]),
        ("awq", ["scaled_errors", "shares_of_largest", "row_dots", "keep_least"]),
        ("attention", ["attention_join"]),
        ("int8round", ["int8_round"]),
        ("int8tensor", ["int8_matrix", "int8_end", .. Int8Eights.Select(eights => $"int8_rows_{eights}")]),
        ("int8few", ["few_int8"]),
        ("int8wide", ["int8_kept", .. Int8WideRows.Select(rows => $"int8_wide_{rows}")]),
        ("token", ["attend_token_64", "attend_token_128", "attend_token_bytes_64", "attend_token_bytes_128", "append_bytes", "widen_bytes"]),
    ];

    private static readonly (string Source, string[] Formats)[] Products =
        [("dense", ["f32", "f16", "bf16"]), ("affine", ["affine8", "affine4", "affine3", "affine2"]), ("codebook", ["codebook4"])];

    // Formats that have kernels on tensor cores; those that are packed also for groups of 32.
    private static readonly string[] TensorFormats = ["codebook4", "affine4", "affine8", "affine3", "affine2", "bf16"];

    /// <summary>Formats whose kernel of few rows comes for three blocks on a multiprocessor too.</summary>
    public static readonly string[] Few3Formats = ["codebook4", "affine4"];

    /// <summary>All kernels.</summary>
    public static IReadOnlyList<KernelName> All { get; } =
    [
        .. Plain.SelectMany(item => item.Names.Select(name => new KernelName(item.Source, name))),
        .. FlashWidths.SelectMany(width => new[] { "flash_forward", "flash_gradient_query", "flash_gradient_keys" }.Select(name => Flash(name, width))),
        .. AttentionDims.SelectMany(dims => new[] { "attention", "attention_token", "attention_gradient_query", "attention_gradient_keys" }.Select(name => Attention(name, dims))),
        .. Products.SelectMany(item => item.Formats).SelectMany(format => GemvRows.Select(rows => Gemv(format, rows)).Append(Rows(format))),
        .. TensorFormats.SelectMany(TensorKernels),
        .. Few3Formats.Select(format => Tensor("few3", format)),
        .. WideFormats.SelectMany(format => WideRows.Select(rows => Wide(format, rows))),
    ];

    private static readonly Dictionary<string, KernelName> ByName =
        Plain.SelectMany(item => item.Names.Select(name => new KernelName(item.Source, name))).ToDictionary(kernel => kernel.Name);

    /// <summary>The sources.</summary>
    public static IReadOnlyList<string> Sources { get; } = [.. All.Select(kernel => kernel.Source).Distinct()];

    /// <summary>A kernel without variants.</summary>
    public static KernelName Of(string name) => ByName[name];

    /// <summary>A kernel of attention.</summary>
    public static KernelName Attention(string name, int dims) => new("attention", $"{name}_{dims}");

    /// <summary>A kernel of attention in BF16.</summary>
    public static KernelName Flash(string name, int width) => new("flash", $"{name}_{width}");

    /// <summary>The product of some rows with a weight of a format.</summary>
    public static KernelName Gemv(string format, int rows) => new(SourceOf(format), $"gemv_{format}_{rows}");

    /// <summary>Rows of a weight of a format.</summary>
    public static KernelName Rows(string format) => new(SourceOf(format), "rows_" + format);

    /// <summary>A kernel on tensor cores: few or expand, for a format such as <c>affine4</c> or <c>affine4_small</c>.</summary>
    public static KernelName Tensor(string kind, string format) =>
        new(format.StartsWith("bf16", StringComparison.Ordinal) ? "tensor" : "tensor_" + format.Split('_')[0], $"{kind}_{format}");

    /// <summary>The kernel of many rows, in eights.</summary>
    public static KernelName Many(string format, int eights) => Tensor("many", $"{format}_{eights}");

    /// <summary>The product by warpgroups whose tiles have some rows of x.</summary>
    public static KernelName Wide(string format, int rows) => new("wide_" + format, $"wide_{format}_{rows}");

    private static IEnumerable<KernelName> TensorKernels(string format) => format == "bf16"
        ? [Tensor("few", format), .. ManyEights.Select(eights => Many(format, eights))]
        : from suffix in new[] { string.Empty, Small }
          from kernel in ManyEights.Select(eights => Many(format + suffix, eights)).Append(Tensor("few", format + suffix)).Append(Tensor("expand", format + suffix))
          select kernel;

    private static string SourceOf(string format) => Products.First(item => item.Formats.Contains(format)).Source;
}
