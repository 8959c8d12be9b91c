"""Makes the files of tests/Nibble.Tests/Goldens/embedded with transformers: perplexities, greedy continuations and logits of an embedded model.

Usage: python3 tools/embedded_golden.py MODEL_FOLDER TEST_TEXT OUT.json [cpu|cuda]     (needs torch and transformers)
F32, TF32 off, attention eager, log-softmax in F64. window-512-256: a window of 512 tokens every 256, every token but the first scored once.
"""
import json, os, sys
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

PROMPTS = ["def add(", "import os\n", "class Stack:\n    "]
folder, text_path, out, device = *sys.argv[1:4], (sys.argv + ["cuda"])[4]
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval().to(device)
auto, plain = AutoTokenizer.from_pretrained(folder), PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"))
text = open(text_path, encoding="utf-8").read()
ids = torch.tensor(plain(text, add_special_tokens=False)["input_ids"])
agrees = auto(text, add_special_tokens=False)["input_ids"] == ids.tolist()


@torch.no_grad()
def losses(rows, first):
    """Σ −log p and the number of the tokens of equal windows from place `first` on."""
    total, count = 0.0, 0
    for part in rows.split(32):
        part = part.to(device)
        logits = model(part).logits[:, first - 1:-1].double().log_softmax(-1)
        total -= logits.gather(-1, part[:, first:, None]).sum().item()
        count += part[:, first:].numel()
    return total, count


def window(tokens, width=512, stride=256):
    total, count, scored, begin = 0.0, 0, 1, 0
    groups = {}
    while True:
        end = min(begin + width, len(tokens))
        groups.setdefault((end - begin, scored - begin), []).append(tokens[begin:end])
        scored = end
        if end == len(tokens):
            break
        begin += stride
    for (_, first), rows in groups.items():
        a, b = losses(torch.stack(rows), first)
        total, count = total + a, count + b
    return total, count


def blocks(tokens, width=512):
    return losses(tokens[:len(tokens) // width * width].reshape(-1, width), 1)


perplexity = []
for limit in (20000, len(ids)):
    for name, measure in (("window-512-256-hf", window), ("blocks-512", blocks)):
        total, count = measure(ids[:limit])
        perplexity.append({"protocol": name, "limit_tokens": limit, "nll_sum": total, "scored_tokens": count, "nll": total / count,
                           "perplexity": float(torch.tensor(total / count, dtype=torch.float64).exp())})
prompts = []
for i, prompt in enumerate(PROMPTS):
    start = plain(prompt, add_special_tokens=False)["input_ids"]
    now, margins = list(start), []
    with torch.no_grad():
        for _ in range(64):
            logits = model(torch.tensor([now], device=device)).logits[0, -1]
            if len(now) == len(start):
                last = logits
            top = logits.topk(2)
            margins.append((top.values[0] - top.values[1]).item())
            now.append(top.indices[0].item())
    greedy = now[len(start):]
    prompts.append({"text": prompt, "ids": start, "greedy_ids": greedy, "greedy_text": plain.decode(greedy), "smallest_top1_margin": min(margins)})
    if i == 0:
        prompts[-1]["last_position_logits"] = [float("%.6g" % v) for v in last.tolist()]
where = "cuda, TF32 off" if device == "cuda" else device
json.dump({
    "model": os.path.basename(os.path.normpath(folder)),
    "computed_by": f"transformers {transformers.__version__}, torch {torch.__version__}, float32 on {where}, attention eager, log-softmax in float64",
    "text": "test.txt", "join": "raw", "tokens_total": len(ids), "parameters": sum(p.numel() for p in model.parameters()), "perplexity": perplexity, "prompts": prompts,
    "tokenizer_class_loaded": type(auto).__name__, "auto_tokenizer_agrees": agrees, "tokenizers_library_equals_our_ids": agrees,
}, open(out, "w"), separators=(",", ":"))
print(json.dumps(perplexity))
