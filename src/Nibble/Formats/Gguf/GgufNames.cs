using System.Globalization;

namespace Nibble.Formats;

/// <summary>Names of tensors: module paths of checkpoints here, GGUF's there.</summary>
internal static class GgufNames
{
    private static readonly (string Module, string Gguf)[] Llama =
    [
        ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"),
        ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
    ];

    private static readonly (string Module, string Gguf)[] Gpt2 =
    [
        ("transformer.wte", "token_embd"), ("transformer.wpe", "position_embd"), ("transformer.ln_f", "output_norm"), ("lm_head", "output"),
        ("ln_1", "attn_norm"), ("ln_2", "ffn_norm"),
        ("attn.c_attn", "attn_qkv"), ("attn.c_proj", "attn_output"), ("mlp.c_fc", "ffn_up"), ("mlp.c_proj", "ffn_down"),
    ];

    /// <summary>GGUF's name of a checkpoint's tensor, or null if it has none.</summary>
    /// <param name="modelType">The config's <c>model_type</c>.</param>
    /// <param name="name">The tensor's name, <c>.weight</c> or <c>.bias</c> included.</param>
    public static string? Of(string modelType, string name)
    {
        (string Module, string Gguf)[] table = modelType == "gpt2" ? Gpt2 : Llama;
        int dot = name.LastIndexOf('.');
        (string path, string end) = (name[..dot], name[dot..]);
        string prefix = modelType == "gpt2" ? "transformer.h." : "model.layers.";
        string block = string.Empty;
        if (path.StartsWith(prefix, StringComparison.Ordinal))
        {
            int next = path.IndexOf('.', prefix.Length);
            block = string.Create(CultureInfo.InvariantCulture, $"blk.{path[prefix.Length..next]}.");
            path = path[(next + 1)..];
        }

        string? found = table.FirstOrDefault(pair => pair.Module == path).Gguf;
        return found == null ? null : block + found + end;
    }

    /// <summary>
    /// Heads of a tensor whose rows arch <c>llama</c> stores in another order: rotary pairs side by side instead of half a head
    /// apart. 0 for all others.
    /// </summary>
    public static int PermutedHeads(string architecture, string gguf, int heads, int keyHeads) =>
        architecture != "llama" ? 0
        : gguf.Contains(".attn_q.", StringComparison.Ordinal) ? heads
        : gguf.Contains(".attn_k.", StringComparison.Ordinal) ? keyHeads
        : 0;

    /// <summary>The row of the file that holds row <paramref name="row"/> of the checkpoint.</summary>
    public static nint StoredRow(nint row, nint rows, int heads)
    {
        if (heads == 0)
        {
            return row;
        }

        nint width = rows / heads, inside = row % width, half = width / 2;
        return row - inside + (2 * (inside % half)) + (inside / half);
    }
}
