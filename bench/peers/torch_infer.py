"""PyTorch's BF16 beside `cuda-gemv`, `cuda-decode` and `cuda-perplexity`: the same shapes on the same card, in the same call.

    python3 bench/peers/torch_infer.py products
    python3 bench/peers/torch_infer.py llama        # transformers, LLaMA-7B's shapes, random weights
"""
import sys
import time

import torch


def micros(queue, count, rounds=9):
    """Per product, as a CUDA graph over weights of more than four times the cache."""
    queue()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        queue()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * start.elapsed_time(end) / count)
    return sorted(times)[rounds // 2]


def products():
    for outs, ins in ((4096, 4096), (11008, 4096), (4096, 11008)):
        weights = [torch.randn(outs, ins, device="cuda", dtype=torch.bfloat16) for _ in range(max(3, (250 << 20) // (2 * outs * ins)))]
        for rows in (1, 4, 8, 16, 64, 128, 512, 2048):
            x = torch.randn(rows, ins, device="cuda", dtype=torch.bfloat16)
            print(f"torch bf16 {rows}x{outs}x{ins}: {micros(lambda: [torch.nn.functional.linear(x, w) for w in weights], len(weights)):.1f} us", flush=True)


@torch.no_grad()
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig()).eval()

    def seconds(work, rounds=5):
        times = []
        for _ in range(rounds + 2):
            torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return sorted(times[2:])[rounds // 2]

    ids = torch.randint(0, 32000, (8, 1024), device="cuda")
    print(f"torch perplexity forward 8x1024: {ids.numel() / seconds(lambda: model(input_ids=ids, labels=ids).loss):.0f} tok/s", flush=True)
    prompt = ids[:1, :512]
    print(f"torch prompt of 512: {512 / seconds(lambda: model(input_ids=prompt, use_cache=True, logits_to_keep=1)):.0f} tok/s", flush=True)


{"products": products, "llama": llama}[sys.argv[1]]()
