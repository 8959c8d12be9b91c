"""PyTorch beside the bench `train`, in the same rounds: a GPT-2 of 10 M parameters on the processor, batch 8 x 256, full and LoRA, in F32 and under BF16 autocast.

    python3 bench/peers/torch_train_cpu.py [--threads 2] [--rounds 5] [--numbers f32|bf16] [--processor-time] [--nibble "COMMAND of the bench, without --method and --rounds"]

The bench prints its F32 and its BF16 rate; PyTorch's autocast multiplies in BF16 where torch.autocast("cpu") does, its parameters and optimizer stay F32, as ours do.

With transformers and PEFT the models are theirs; without, the same GPT-2 stands below in plain PyTorch, with its loss and LoRA.
--processor-time counts the processor's seconds, as the bench's option of that name does, for busy machines (with --threads 1: waiting threads spin).
With --nibble the bench runs before and after each of PyTorch's measurements, so that both see the same machine.
"""
import argparse
import shlex
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY, WIDTH, LAYERS, HEADS, BATCH, LENGTH = 8192, 320, 6, 5, 8, 256


class Lora(nn.Module):
    def __init__(self, base, rank=8, alpha=16):
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.a, self.b = nn.Linear(base.in_features, rank, bias=False), nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x)) * self.scale


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.c_fc, self.mlp_c_proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.register_buffer("mask", torch.full((LENGTH, LENGTH), float("-inf")).triu(1))

    def forward(self, x):
        shape = (BATCH, LENGTH, HEADS, WIDTH // HEADS)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).split(WIDTH, dim=2))
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = torch.softmax(q @ k.transpose(2, 3) * (WIDTH // HEADS) ** -0.5 + self.mask, -1) @ v
        x = x + self.c_proj(y.transpose(1, 2).reshape(BATCH, LENGTH, WIDTH))
        h = self.c_fc(self.ln_2(x))
        return x + self.mlp_c_proj(F.gelu(h, approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(512, WIDTH)
        self.blocks, self.ln_f = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(LENGTH))
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


def plain(method):
    model = Gpt2()
    if method == "lora":
        model.requires_grad_(False)
        for block in model.blocks:
            block.c_attn, block.c_proj, block.mlp_c_proj = Lora(block.c_attn), Lora(block.c_proj), Lora(block.mlp_c_proj)
    return model, lambda ids: F.cross_entropy(model(ids)[:, :-1].reshape(-1, VOCABULARY), ids[:, 1:].reshape(-1))


def of_transformers(method):
    from transformers import GPT2Config, GPT2LMHeadModel
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=512, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
    if method == "lora":
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, task_type="CAUSAL_LM"))
    return model, lambda ids: model(input_ids=ids, labels=ids, use_cache=False).loss


def rates(method, rounds, numbers, clock):
    try:
        model, loss_of = of_transformers(method)
        name = "transformers, PEFT"
    except ImportError:
        model, loss_of = plain(method)
        name = "plain"
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0)
    ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    found = []
    for _ in range(rounds + 2):
        start = clock()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=numbers == "bf16"):
            loss = loss_of(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        found.append(BATCH * LENGTH / (clock() - start))
    return name, found[2:]


def show(label, values):
    print(f"{label:40} {statistics.median(values):7.0f} tok/s   ({min(values):.0f} to {max(values):.0f})", flush=True)


def nibble(command, method, rounds):
    subprocess.run([*shlex.split(command), "--method", method, "--rounds", str(rounds)], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--method", choices=("full", "lora"), help="one of them; both without")
    parser.add_argument("--numbers", choices=("f32", "bf16"), help="of PyTorch's products; both without")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--nibble")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for method in (arguments.method,) if arguments.method else ("full", "lora"):
        if arguments.nibble:
            nibble(arguments.nibble, method, arguments.rounds)
        for numbers in (arguments.numbers,) if arguments.numbers else ("f32", "bf16"):
            name, found = rates(method, arguments.rounds, numbers, time.process_time if arguments.processor_time else time.perf_counter)
            show(f"torch {torch.__version__} ({name}), {method}, {numbers}", found)
        if arguments.nibble:
            nibble(arguments.nibble, method, arguments.rounds)


if __name__ == "__main__":
    main()
