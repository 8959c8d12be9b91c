"""Makes tests/Nibble.Tests/Goldens/training-quantized with PyTorch: training through a quantizer, by plain formulas.

Usage: python3 tools/quantized_training_golden.py (from the repository's root; needs torch and numpy only).
The models, batches and optimizer are those of Goldens/training; without a quantizer this file gives the losses there, which it checks.
"""
import gzip, json, math, os, struct
import numpy as np
import torch
import torch.nn.functional as F

ROOT = "tests/Nibble.Tests/Goldens"
torch.set_num_threads(2)


def load(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    return {name: torch.tensor(np.frombuffer(data[8 + size + e["data_offsets"][0]:8 + size + e["data_offsets"][1]], dtype=np.float32).reshape(e["shape"]).copy())
            for name, e in header.items() if name != "__metadata__"}


def save(path, tensors):
    header, offset = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [offset, offset + 4 * t.numel()]}
        offset += 4 * t.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(text)) + text + b"".join(t.contiguous().numpy().tobytes() for t in tensors.values())
    with open(path, "wb") as f:
        f.write(gzip.compress(data, 9, mtime=0))


def ternary(w):  # BitNet b1.58, eq. 1 to 3
    s = w.abs().double().mean().float().clamp(min=1e-5)
    return torch.round(w / s).clamp(-1, 1) * s


def affine(bits, group):  # round to nearest, whole zero points, scales in F16
    def run(w):
        g, levels = w.reshape(-1, group), 2 ** bits - 1
        low, high = g.min(1, True)[0].clamp(max=0), g.max(1, True)[0].clamp(min=0)
        s = ((high - low) / levels).half().float()
        zero = torch.round(-low / s).clamp(0, levels)
        return ((torch.round(g / s) + zero).clamp(0, levels) - zero).mul(s).reshape(w.shape)
    return run


def int8(x):
    absmax = x.abs().max(-1, True)[0]
    return torch.round(x * (127 / absmax)) * (absmax / 127)


def linear(x, w, b, q, share):  # w [out, in]
    if q is not None:
        w = w + (share * (q["weights"](w) - w)).detach()
        if q["activations"]:
            x = x + (share * (int8(x) - x)).detach()
    return F.linear(x, w, b)


def attention(q, k, v, heads):
    b, t, d = q.shape
    q, k, v = (y.reshape(b, t, heads, d // heads).transpose(1, 2) for y in (q, k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(d // heads)
    scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d)


def gpt2(p, c, ids, q, share):
    x = p["transformer.wte.weight"][ids] + p["transformer.wpe.weight"][:ids.shape[1]]
    norm = lambda x, n: F.layer_norm(x, x.shape[-1:], p[n + ".weight"], p[n + ".bias"], 1e-5)
    lin = lambda x, n: linear(x, p[n + ".weight"].t(), p[n + ".bias"], q, share)
    for i in range(c["n_layer"]):
        h = f"transformer.h.{i}."
        a = lin(norm(x, h + "ln_1"), h + "attn.c_attn").chunk(3, -1)
        x = x + lin(attention(*a, c["n_head"]), h + "attn.c_proj")
        m = lin(norm(x, h + "ln_2"), h + "mlp.c_fc")
        m = 0.5 * m * (1 + torch.tanh(math.sqrt(2 / math.pi) * (m + 0.044715 * m ** 3)))
        x = x + lin(m, h + "mlp.c_proj")
    return norm(x, "transformer.ln_f") @ p["transformer.wte.weight"].t()


def llama(p, c, ids, q, share):
    x, heads = p["model.embed_tokens.weight"][ids], c["num_attention_heads"]
    norm = lambda x, n: p[n + ".weight"] * (x * torch.rsqrt(x.pow(2).mean(-1, True) + 1e-5))
    lin = lambda x, n: linear(x, p[n + ".weight"], None, q, share)
    dim = c["head_dim"]
    angle = torch.outer(torch.arange(ids.shape[1]).float(), 1 / 10000 ** (torch.arange(0, dim, 2).float() / dim))
    cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()

    def rope(y):
        y = y.reshape(*y.shape[:2], heads, dim).transpose(1, 2)
        y = y * cos + torch.cat([-y[..., dim // 2:], y[..., :dim // 2]], -1) * sin
        return y.transpose(1, 2).reshape(*ids.shape, -1)

    for i in range(c["num_hidden_layers"]):
        h = f"model.layers.{i}."
        n = norm(x, h + "input_layernorm")
        k, v = lin(n, h + "self_attn.k_proj"), lin(n, h + "self_attn.v_proj")
        x = x + lin(attention(rope(lin(n, h + "self_attn.q_proj")), rope(k), v, heads), h + "self_attn.o_proj")
        n = norm(x, h + "post_attention_layernorm")
        x = x + lin(F.silu(lin(n, h + "mlp.gate_proj")) * lin(n, h + "mlp.up_proj"), h + "mlp.down_proj")
    return norm(x, "model.norm") @ p["lm_head.weight"].t()


def train(name, q, warmup, steps=None, gradients=False):
    config = json.load(open(f"{ROOT}/models/{name}/config.json"))
    golden = json.load(open(f"{ROOT}/training/{name}/golden.json"))
    p = {k: v.requires_grad_() for k, v in load(f"{ROOT}/models/{name}/model.safetensors").items() if not (name == "gpt2" and k == "lm_head.weight")}
    optimizer = torch.optim.AdamW(p.values(), lr=1e-3, weight_decay=0.01)
    losses, batches = [], golden["batches"][:steps]
    for step, batch in enumerate(batches):
        ids = torch.tensor(batch)
        share = 1.0 if warmup <= 0 else min(1.0, step / (warmup * len(batches)))
        logits = {"gpt2": gpt2, "llama": llama}[name](p, config, ids, q, share)
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        losses.append(round(loss.item(), 6))
        if gradients:
            return {k: v.grad.detach().clone() for k, v in p.items()}
        optimizer.step()
    return losses, {k: round(v.detach().double().norm().item(), 6) for k, v in p.items()}, golden["losses"]


if __name__ == "__main__":
    out = f"{ROOT}/training-quantized"
    os.makedirs(out, exist_ok=True)
    bitnet, rtn = {"weights": ternary, "activations": True}, {"weights": affine(4, 16), "activations": False}
    document = {}
    for name in ("gpt2", "llama"):
        plain, _, expected = train(name, None, 0)
        assert max(abs(a - b) for a, b in zip(plain, expected)) < 2e-5, (name, plain, expected)
        for kind, q, warmup in (("bitnet", bitnet, 0.5), ("qat", rtn, 0)):
            losses, norms, _ = train(name, q, warmup)
            document[f"{name}-{kind}"] = {"losses": losses, "final_weight_norms": norms}
            print(name, kind, losses)
    save(f"{out}/gpt2-bitnet.safetensors.gz", train("gpt2", bitnet, 0, gradients=True))
    save(f"{out}/llama-qat.safetensors.gz", train("llama", rtn, 0, gradients=True))
    json.dump(document, open(f"{out}/golden.json", "w"), indent=1)
