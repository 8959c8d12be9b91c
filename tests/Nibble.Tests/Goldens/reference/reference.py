#!/usr/bin/env python3
"""Logits in double precision of tiny random models of the rarer variants, written out by hand: reference.py [OUT].

Needs PyTorch only (any version since 1.13). Each function follows the papers, not another implementation of the model.
"""
import json, math, os, struct, sys
import torch

VOCABULARY, HIDDEN, INNER, LAYERS, HEADS = 64, 16, 24, 2, 4
ROWS = (4, 7, 10)


def save(path, tensors):
    """A safetensors file: length of the header, header, bytes."""
    header, data = {}, b""
    for name in sorted(tensors):
        raw = tensors[name].float().contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def rounded(tensor):
    """What the file holds, as the model will read it."""
    return tensor.float().double()


def rms_norm(x, weight, epsilon):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + epsilon) * weight


def layer_norm(x, weight, bias, epsilon):
    centered = x - x.mean(-1, keepdim=True)
    return centered / torch.sqrt((centered * centered).mean(-1, keepdim=True) + epsilon) * weight + bias


def attend(query, key, value, scale, window):
    """query [n, heads, dim], key and value [n, kv heads, dim]; window 0 sees everything."""
    n, heads, _ = query.shape
    group = heads // key.shape[1]
    out = torch.zeros_like(query)
    for head in range(heads):
        for i in range(n):
            first = max(0, i - window + 1) if window else 0
            scores = key[first:i + 1, head // group] @ query[i, head] * scale
            out[i, head] = torch.softmax(scores, 0) @ value[first:i + 1, head // group]
    return out.reshape(n, -1)


def rotate(x, theta, factor):
    n, _, dim = x.shape
    frequency = theta ** (-torch.arange(0, dim, 2).double() / dim) / factor
    angle = torch.arange(n).double()[:, None, None] * frequency
    first, second = x[..., :dim // 2], x[..., dim // 2:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


def int8(x):
    """Activations of BitNet: one scale a token, absmax (arXiv 2402.17764, section 2)."""
    scale = 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return (x * scale).round().clamp(-128, 127) / scale


def llama(weights, config, ids):
    bitnet = config["model_type"] == "bitnet"
    epsilon, heads, kv = config["rms_norm_eps"], config["num_attention_heads"], config["num_key_value_heads"]
    scaling = config.get("rope_scaling") or {}

    def linear(path, x):
        bias = weights.get(path + ".bias")
        y = (int8(x) if bitnet else x) @ weights[path + ".weight"].T
        return y if bias is None else y + bias

    def norm(path, x):
        return rms_norm(x, weights[path + ".weight"], epsilon)

    x = weights["model.embed_tokens.weight"][ids]
    n = len(ids)
    for i in range(config["num_hidden_layers"]):
        path = f"model.layers.{i}."
        y = norm(path + "input_layernorm", x)
        q, k, v = (linear(path + f"self_attn.{name}_proj", y).view(n, count, -1) for name, count in (("q", heads), ("k", kv), ("v", kv)))
        if config["model_type"] == "qwen3":
            q, k = norm(path + "self_attn.q_norm", q), norm(path + "self_attn.k_norm", k)
        q, k = (rotate(t, config["rope_theta"], scaling.get("factor", 1)) for t in (q, k))
        window = config.get("sliding_window", 0) if config.get("layer_types", [""] * 9)[i] == "sliding_attention" else 0
        y = attend(q, k, v, 1 / math.sqrt(q.shape[-1]), window)
        y = norm(path + "self_attn.attn_sub_norm", y) if bitnet else y
        x = x + linear(path + "self_attn.o_proj", y)
        y = norm(path + "post_attention_layernorm", x)
        gate, up = linear(path + "mlp.gate_proj", y), linear(path + "mlp.up_proj", y)
        y = norm(path + "mlp.ffn_sub_norm", gate.clamp(min=0) ** 2 * up) if bitnet else gate / (1 + torch.exp(-gate)) * up
        x = x + linear(path + "mlp.down_proj", y)
    head = weights["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"]
    return norm("model.norm", x) @ head.T + weights.get("lm_head.bias", 0)


def gpt2(weights, config, ids):
    n, heads = len(ids), config["n_head"]

    def linear(path, x):
        return x @ weights[path + ".weight"] + weights[path + ".bias"]

    def norm(path, x):
        return layer_norm(x, weights[path + ".weight"], weights[path + ".bias"], config["layer_norm_epsilon"])

    x = weights["wte.weight"][ids] + weights["wpe.weight"][:n]
    for i in range(config["n_layer"]):
        q, k, v = linear(f"h.{i}.attn.c_attn", norm(f"h.{i}.ln_1", x)).view(n, 3, heads, -1).unbind(1)
        x = x + linear(f"h.{i}.attn.c_proj", attend(q, k, v, 1 / math.sqrt(q.shape[-1]) / (i + 1), 0))
        y = linear(f"h.{i}.mlp.c_fc", norm(f"h.{i}.ln_2", x))
        x = x + linear(f"h.{i}.mlp.c_proj", y * (1 + torch.erf(y / math.sqrt(2))) / 2)
    return norm("ln_f", x) @ weights["lm_head.weight"].T + weights["lm_head.bias"]


def random_weights(shapes, seed, ternary):
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, shape in shapes.items():
        r = torch.randn(shape, generator=generator).double()
        if ternary(name):
            r = r.round().clamp(-1, 1) * 0.25
        elif len(shape) == 1:
            r = 0.2 * r + (1 if "norm" in name or "ln_" in name and name.endswith("weight") else 0)
        else:
            r = (0.6 if "embed" in name or "wte" in name else 0.35) * r
        result[name] = rounded(r)
    return result


def llama_case(**changes):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
              "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, **changes}
    dim = config.get("head_dim", HIDDEN // HEADS)
    wide, narrow, bias = HEADS * dim, config["num_key_value_heads"] * dim, config.get("attention_bias", False)
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for i in range(LAYERS):
        path = f"model.layers.{i}."
        matrices = {"self_attn.q_proj": (wide, HIDDEN), "self_attn.k_proj": (narrow, HIDDEN), "self_attn.v_proj": (narrow, HIDDEN),
                    "self_attn.o_proj": (HIDDEN, wide), "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN), "mlp.down_proj": (HIDDEN, INNER)}
        for name, shape in matrices.items():
            shapes[path + name + ".weight"] = shape
            if bias and name.startswith("self_attn"):
                shapes[path + name + ".bias"] = shape[:1]
        norms = {"input_layernorm": HIDDEN, "post_attention_layernorm": HIDDEN}
        norms.update({"self_attn.q_norm": dim, "self_attn.k_norm": dim} if config["model_type"] == "qwen3" else {})
        norms.update({"self_attn.attn_sub_norm": wide, "mlp.ffn_sub_norm": INNER} if config["model_type"] == "bitnet" else {})
        shapes.update({path + name + ".weight": (width,) for name, width in norms.items()})
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (VOCABULARY, HIDDEN)
    if config.get("lm_head_bias"):
        shapes["lm_head.bias"] = (VOCABULARY,)
    return config, shapes, llama


def gpt2_case():
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": VOCABULARY, "n_positions": 32, "n_embd": HIDDEN, "n_layer": LAYERS,
              "n_head": HEADS, "n_inner": None, "activation_function": "gelu", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False,
              "lm_head_bias": True, "scale_attn_by_inverse_layer_idx": True}
    shapes = {"wte.weight": (VOCABULARY, HIDDEN), "wpe.weight": (32, HIDDEN), "ln_f.weight": (HIDDEN,), "ln_f.bias": (HIDDEN,),
              "lm_head.weight": (VOCABULARY, HIDDEN), "lm_head.bias": (VOCABULARY,)}
    for i in range(LAYERS):
        for name, shape in {"attn.c_attn": (HIDDEN, 3 * HIDDEN), "attn.c_proj": (HIDDEN, HIDDEN), "mlp.c_fc": (HIDDEN, 4 * HIDDEN), "mlp.c_proj": (4 * HIDDEN, HIDDEN)}.items():
            shapes.update({f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[1:]})
        shapes.update({f"h.{i}.ln_{j}.{end}": (HIDDEN,) for j in (1, 2) for end in ("weight", "bias")})
    return config, shapes, gpt2


CASES = {
    "gpt2-unprefixed": gpt2_case(),
    "llama-linear-head-bias": llama_case(rope_scaling={"type": "linear", "factor": 2.5}, lm_head_bias=True, tie_word_embeddings=True),
    "qwen3-mixed-windows": llama_case(architectures=["Qwen3ForCausalLM"], model_type="qwen3", head_dim=8, attention_bias=True, use_sliding_window=True,
                                      sliding_window=5, layer_types=["full_attention", "sliding_attention"], rope_theta=1000000.0),
    "bitnet": llama_case(architectures=["BitNetForCausalLM"], model_type="bitnet", hidden_act="relu2", tie_word_embeddings=True, rope_theta=500000.0),
}


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for seed, (name, (config, shapes, forward)) in enumerate(CASES.items()):
        folder = os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        ternary = lambda tensor: config["model_type"] == "bitnet" and "_proj" in tensor
        weights = random_weights(shapes, seed, ternary)
        save(os.path.join(folder, "model.safetensors"), weights)
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(config, file, indent=1)
            file.write("\n")
        generator = torch.Generator().manual_seed(1000 + seed)
        rows = [torch.randint(1, VOCABULARY, (n,), generator=generator) for n in ROWS]
        runs = []
        for side in ("left", "right"):
            pad = lambda row, value: ([0] * (max(ROWS) - len(row)) + value) if side == "left" else (value + [0] * (max(ROWS) - len(row)))
            runs.append({"name": "padded-" + side, "input_ids": [pad(row, row.tolist()) for row in rows], "attention_mask": [pad(row, [1] * len(row)) for row in rows],
                         "logits": [[[float(f"{v:.7g}") for v in logits] for logits in forward(weights, config, row).tolist()] for row in rows]})
        with open(os.path.join(folder, "golden.json"), "w") as file:
            json.dump({"description": f"{name}; double precision, written out by hand", "runs": runs}, file, separators=(",", ":"))
            file.write("\n")


if __name__ == "__main__":
    main()
