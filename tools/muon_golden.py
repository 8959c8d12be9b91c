"""Makes tests/Nibble.Tests/Goldens/training-muon/golden.json with PyTorch: steps of Muon and the Newton-Schulz iteration alone.

Usage: python3 tools/muon_golden.py (from the repository's root; needs torch and numpy only).
Muon as Keller Jordan describes it (kellerjordan.github.io/posts/muon), in F32, steps of the size of arXiv 2502.16982: momentum 0.95 with
Nesterov's look ahead, five steps of Newton-Schulz, update × 0.2·√max(rows, columns), decoupled decay; GPT-2's queries, keys and values apart.
Everything else by torch.optim.AdamW. Models and batches are those of Goldens/training.
"""
import json, os
import torch
import torch.nn.functional as F
from quantized_training_golden import ROOT, gpt2, llama, load

RATE, DECAY, MOMENTUM = 1e-3, 0.1, 0.95


def newton_schulz(g):
    x = g.t() if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.t()
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.t() if g.shape[0] > g.shape[1] else x


@torch.no_grad()
def muon(p, velocity, parts):  # p [out, in]
    velocity.mul_(MOMENTUM).add_(p.grad)
    direction = p.grad + MOMENTUM * velocity
    steps = [newton_schulz(part) * 0.2 * max(part.shape) ** 0.5 for part in direction.chunk(parts)]
    p.mul_(1 - RATE * DECAY).sub_(RATE * torch.cat(steps))


def train(name):
    config = json.load(open(f"{ROOT}/models/{name}/config.json"))
    golden = json.load(open(f"{ROOT}/training/{name}/golden.json"))
    p = {k: v for k, v in load(f"{ROOT}/models/{name}/model.safetensors").items() if not (name == "gpt2" and k == "lm_head.weight")}
    matrices = [k for k, v in p.items() if v.ndim == 2 and (".h." in k or ".layers." in k)]
    p = {k: (v.t().contiguous() if name == "gpt2" and k in matrices else v).requires_grad_() for k, v in p.items()}
    rest = torch.optim.AdamW([v for k, v in p.items() if k not in matrices], lr=RATE, weight_decay=DECAY, betas=(0.9, 0.95))
    velocities, losses = {k: torch.zeros_like(p[k]) for k in matrices}, []
    for batch in golden["batches"]:
        ids = torch.tensor(batch)
        stored = {k: v.t() if name == "gpt2" and k in matrices else v for k, v in p.items()}
        logits = {"gpt2": gpt2, "llama": llama}[name](stored, config, ids, None, 1.0)
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
        for v in p.values():
            v.grad = None
        loss.backward()
        losses.append(round(loss.item(), 6))
        rest.step()
        for k in matrices:
            muon(p[k], velocities[k], 3 if k.endswith("c_attn.weight") else 1)
    return {"losses": losses, "final_weight_norms": {k: round(v.detach().double().norm().item(), 6) for k, v in p.items()},
            "final_weight_sums": {k: round(v.detach().double().sum().item(), 6) for k, v in p.items()}}


def sample(rows, columns):
    """Numbers that any language can make again: a linear congruential generator."""
    values, state = [], 12345 + rows
    for _ in range(rows * columns):
        state = (state * 1103515245 + 12345) % (1 << 31)
        values.append(state / (1 << 30) - 1)
    return torch.tensor(values, dtype=torch.float32).reshape(rows, columns)


if __name__ == "__main__":
    document = {name: train(name) for name in ("gpt2", "llama")}
    document["newton_schulz"] = [
        {"rows": r, "columns": c, "values": [float("%.7g" % v) for v in newton_schulz(sample(r, c)).flatten().tolist()]} for r, c in ((5, 9), (11, 4), (8, 8), (1, 6))]
    os.makedirs(f"{ROOT}/training-muon", exist_ok=True)
    json.dump(document, open(f"{ROOT}/training-muon/golden.json", "w"), indent=1)
    print(document["gpt2"]["losses"], document["llama"]["losses"])
