"""PyTorch beside `cuda-flash` and `cuda-train`: the same shapes on the same card, in the same call.

    python3 bench/peers/torch_train.py attention
    python3 bench/peers/torch_train.py gpt2 [--compile]
"""
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def micros(work, rounds=5, each=5):
    times = []
    for _ in range(rounds):
        work()
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(each):
            work()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * start.elapsed_time(end) / each)
    return sorted(times)[rounds // 2]


def attention():
    for batch, heads, length, dim in ((32, 32, 512, 128), (4, 32, 2048, 128), (32, 16, 512, 64)):
        q, k, v = (torch.randn(batch, heads, length, dim, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
        d = torch.randn_like(q)
        for name, kind in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
            with sdpa_kernel(kind):
                with torch.no_grad():
                    forward = micros(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
                both = micros(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(d))
            print(f"torch {name} {batch}x{heads}x{length}x{dim}: forward {forward:.0f} us, forward + backward {both:.0f} us")


def gpt2(compiled):
    from transformers import GPT2Config, GPT2LMHeadModel
    for name, width, layers, heads in (("82M", 768, 6, 12), ("medium", 1024, 24, 16)):
        config = GPT2Config(n_embd=width, n_layer=layers, n_head=heads, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
        model = GPT2LMHeadModel(config).cuda().to(torch.bfloat16)
        run = torch.compile(model) if compiled else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        ids = torch.randint(0, 50257, (32, 512), device="cuda")

        def step():
            run(input_ids=ids, labels=ids).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        for _ in range(3):
            step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        for _ in range(5):
            step()
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / 5
        print(f"torch gpt2 {name} full bf16 32x512{' compiled' if compiled else ''}: {32 * 512 / seconds:.0f} tok/s, peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")


if __name__ == "__main__":
    gpt2("--compile" in sys.argv) if sys.argv[1:2] == ["gpt2"] else attention()
