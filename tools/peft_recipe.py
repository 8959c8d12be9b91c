#!/usr/bin/env python3
"""Tunes the embedded GPT-2 with PyTorch, transformers and PEFT by the recipe of `nibble finetune --demo`.

    tools/peft_recipe.py --methods lora full --seeds 1234 1235 1236 --threads 2 > peft.json
    dotnet run -c Release --project bench/Nibble.Bench -- tuning --rounds 3 --threads 2 --json > nibble.json

Everything that a recipe leaves to chance is computed as Nibble computes it, from the seed: the order of the rows and the start of
the adapters (SplitMix64 as a function of key and counter). Rows, schedule, optimizer and clipping are the same by definition, so
losses may differ by rounding only. Both documents have, for each method and seed, the held-out loss before and after and the
trained tokens a second over the steps. Needs torch, transformers and peft; runs on the CPU.
"""
import argparse
import hashlib
import json
import math
import pathlib
import statistics
import struct
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MASK = (1 << 64) - 1
LENGTH, BATCH, STEPS = 256, 8, 16
RANK, ALPHA = 8, 16
RATES = {"lora": 2e-3, "full": 1e-4}
WARMUP_RATIO = 0.03
MAX_GRAD_NORM = 1.0
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}


def bits(key, counter):
    """64 random bits: the finalizer of SplitMix64 over key and counter."""
    z = (key + (counter + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def key_of(*parts):
    key = 0
    for part in parts:
        key = bits(key, part)
    return key


def uniforms(key, count):
    """The first numbers in [0, 1) of a key."""
    return [(bits(key, i) >> 11) / (1 << 53) for i in range(count)]


def order(seed, epoch, count):
    """Numbers of all rows in the order of an epoch (Fisher and Yates)."""
    key = key_of(key_of(seed), epoch)
    rows = list(range(count))
    for i in range(count - 1, 0, -1):
        j = bits(key, i) % (i + 1)
        rows[i], rows[j] = rows[j], rows[i]
    return rows


def rows_of(ids):
    """The text's tokens and what follows each, cut into rows; the last one is shorter."""
    last = len(ids) - 1
    return [(ids[at:min(at + LENGTH, last)], ids[at + 1:min(at + LENGTH, last) + 1]) for at in range(0, last, LENGTH)]


def fingerprint(rows):
    """What Nibble writes as "data" into a checkpoint's settings, if the rows are the same."""
    digest = hashlib.sha256()
    for ids, targets in rows:
        digest.update(struct.pack("<i", len(ids)) + struct.pack(f"<{len(ids)}i", *ids) + struct.pack(f"<{len(ids)}i", *targets))
    return digest.hexdigest()


def rate_at(step, highest):
    warmup = math.ceil(WARMUP_RATIO * STEPS)
    if step < warmup:
        return highest * (step + 1) / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, STEPS - warmup)))


def batches(rows, seed):
    """The rows of each step."""
    per_epoch = -(-len(rows) // BATCH)
    for step in range(STEPS):
        at = step % per_epoch * BATCH
        yield [rows[number] for number in order(seed, step // per_epoch, len(rows))[at:at + BATCH]]


def pad(torch, rows):
    """Rows as a batch: padding on the right is not scored."""
    length = max(len(ids) for ids, _ in rows)
    return (torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in rows]),
            torch.tensor([targets + [-100] * (length - len(targets)) for _, targets in rows]))


def loss_sum(torch, model, rows):
    ids, targets = pad(torch, rows)
    logits = model(input_ids=ids, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100, reduction="sum")


def held_out(torch, model, rows):
    """Mean -log p of all scored tokens."""
    model.eval()
    with torch.no_grad():
        total = sum(loss_sum(torch, model, rows[at:at + BATCH]).item() for at in range(0, len(rows), BATCH))
    return total / sum(len(targets) for _, targets in rows)


def tuned(torch, model, method, seed):
    """The model with what is trained: itself, or LoRA on all linear layers of the blocks from Nibble's own start."""
    if method == "full":
        return model
    import peft
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", fan_in_fan_out=True,
                             target_modules=["c_attn", "c_proj", "c_fc"])
    model = peft.get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            path = name.removeprefix("base_model.model.").split(".lora_A.")[0]
            bound = 1 / math.sqrt(parameter.shape[1])
            key = key_of(key_of(seed), key_of(*map(ord, path)))
            start = [(2 * value - 1) * bound for value in uniforms(key, parameter.numel())]
            parameter.data.copy_(torch.tensor(start, dtype=torch.float64).reshape(parameter.shape))
    return model


def train(torch, model, rows, seed, highest):
    """Runs the steps; returns losses and seconds."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=highest, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    model.train()
    losses, seconds, tokens = [], [], []
    for step, batch in enumerate(batches(rows, seed)):
        start = time.perf_counter()
        scored = sum(len(targets) for _, targets in batch)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, highest)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_sum(torch, model, batch) / scored
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
        tokens.append(scored)
        print(f"step {step + 1}/{STEPS}  loss {losses[-1]:.4f}  {scored / seconds[-1]:.0f} tokens/s", file=sys.stderr)
    # The first steps warm up; their time counts in neither program's median.
    rates = sorted(count / second for count, second in zip(tokens[2:], seconds[2:]))
    return losses, statistics.median(rates)


def summary(values):
    """Mean and 95 % interval over seeds."""
    mean = statistics.fmean(values)
    half = T_95.get(len(values), 1.96) * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"mean": mean, "interval": [mean - half, mean + half]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=sorted(RATES), default=["lora", "full"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1234, 1235, 1236])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, help="instead of 2e-3 (lora) and 1e-4 (full)")
    parser.add_argument("--model", default=str(ROOT / "assets/nibble-gpt2-10m"))
    parser.add_argument("--data", default=str(ROOT / "assets/text/tune-train.txt"))
    parser.add_argument("--eval-data", default=str(ROOT / "assets/text/tune-valid.txt"))
    arguments = parser.parse_args()

    import torch
    import transformers
    torch.set_num_threads(arguments.threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)

    def tokens(path):
        text = pathlib.Path(path).read_bytes().decode("utf-8")
        return rows_of(tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id])

    rows, held = tokens(arguments.data), tokens(arguments.eval_data)
    document = {"rows": len(rows), "rows_sha256": fingerprint(rows), "held_out_sha256": fingerprint(held), "threads": arguments.threads,
                "torch": torch.__version__, "transformers": transformers.__version__, "runs": [], "summary": {}}
    for method in arguments.methods:
        for seed in arguments.seeds:
            base = transformers.AutoModelForCausalLM.from_pretrained(arguments.model).float()
            model = tuned(torch, base, method, seed)
            before = held_out(torch, model, held)
            losses, rate = train(torch, model, rows, seed, arguments.learning_rate or RATES[method])
            after = held_out(torch, model, held)
            document["runs"].append({"method": method, "seed": seed, "heldout_nll_before": before, "heldout_nll_after": after,
                                     "gain": before - after, "tokens_per_second": rate, "train_losses": losses})
            print(f"{method}, seed {seed}: {before:.4f} -> {after:.4f}, {rate:.0f} tokens/s", file=sys.stderr)
        runs = [run for run in document["runs"] if run["method"] == method]
        document["summary"][method] = {what: summary([run[what] for run in runs]) for what in ("gain", "heldout_nll_after", "tokens_per_second")}
    json.dump(document, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
