#!/usr/bin/env python3
"""Perplexity of a LLaMA-type model that the authors' own code quantized, beside Nibble's with the same settings and calibration samples.

    dotnet run -c Release --project bench/Nibble.Bench -- awq-error --model MODEL --output SAMPLES     (writes calibration-SEED.txt for nine seeds: token ids)
    tools/authors_peer.py gptq NIBBLE MODEL SAMPLES WORK --source PATH --bits 4 --group-size 64 --samples 32 --seeds 1234 1235 1236 1237
    tools/authors_peer.py awq-error NIBBLE MODEL SAMPLES WORK --source PATH                            (errors of single layers, beside SAMPLES/errors.txt;
                                                                                                       gptq-error: SAMPLES is what the bench layer-error wrote)

Methods and what is taken from the checkout at --source: awq (AutoAWQ: search of factors and ranges, applying, rounding), gptq (IST-DASLab/gptq:
GPTQ and Quantizer, layers that feed others first), hqq (mobiusml/hqq: Quantizer, with the defaults of its BaseQuantizeConfig). Their functions run on the same blocks in PyTorch, on the processor, in F32;
what they make is written as a dense folder, and `nibble eval` measures both on the same tokens, paired. Rounding is chaotic in its last digits (an error moves the rounding of all
columns behind it), so one difference is one draw: with several --seeds the statement is about the mean of the differences, and its interval knows the chance of samples and rounding (Student's t)
as well as that of the text.
"""
import argparse
import ast
import copy
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys
import time
import types
import typing

import numpy as np
import torch
from torch import nn

from interop_check import load

torch.set_grad_enabled(False)


class LlamaRMSNorm(nn.Module):
    def __init__(self, weight, epsilon):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(weight, False), epsilon

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon))


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight, False)
    return layer


class Attention(nn.Module):
    def __init__(self, weights, prefix, config):
        super().__init__()
        for name in "qkvo":
            setattr(self, f"{name}_proj", linear(weights[f"{prefix}.{name}_proj.weight"]))
        self.heads, self.pairs = config["num_attention_heads"], config["num_key_value_heads"]
        self.width = config.get("head_dim") or config["hidden_size"] // self.heads
        theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
        angles = torch.arange(config["max_position_embeddings"]).double()[:, None] / theta ** (torch.arange(0, self.width, 2).double() / self.width)
        self.cos, self.sin = angles.cos().float().repeat(1, 2), angles.sin().float().repeat(1, 2)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (layer(x).view(batch, length, -1, self.width).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj))
        q, k = self.turn(q, length), self.turn(k, length)
        k, v = (value.repeat_interleave(self.heads // self.pairs, 1) for value in (k, v))
        scores = (q @ k.transpose(2, 3) / math.sqrt(self.width)).masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -math.inf)
        return self.o_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1))

    def turn(self, x, length):
        half = self.width // 2
        return x * self.cos[:length] + torch.cat((-x[..., half:], x[..., :half]), -1) * self.sin[:length]


class Mlp(nn.Module):
    def __init__(self, weights, prefix):
        super().__init__()
        for name in ("gate", "up", "down"):
            setattr(self, f"{name}_proj", linear(weights[f"{prefix}.{name}_proj.weight"]))

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, weights, index, config):
        super().__init__()
        prefix = f"model.layers.{index}"
        self.input_layernorm = LlamaRMSNorm(weights[f"{prefix}.input_layernorm.weight"], config["rms_norm_eps"])
        self.self_attn = Attention(weights, prefix + ".self_attn", config)
        self.post_attention_layernorm = LlamaRMSNorm(weights[f"{prefix}.post_attention_layernorm.weight"], config["rms_norm_eps"])
        self.mlp = Mlp(weights, prefix + ".mlp")

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


def opened(model):
    """A folder's weights in F32, its blocks, its embedding."""
    config = json.loads(pathlib.Path(model, "config.json").read_text())
    weights = {name: value.float() for name, value in load(model).items()}
    return weights, [Block(weights, index, config) for index in range(config["num_hidden_layers"])], weights["model.embed_tokens.weight"]


def through(block, x):
    return torch.cat([block(part) for part in x.split(16)])


def inputs_of(block, names, x):
    """What the named layers read, and the block's output."""
    found, handles = {name: [] for name in names}, []
    layers = dict(block.named_modules())
    for name in names:
        handles.append(layers[name].register_forward_hook(lambda _, given, __, name=name: found[name].append(given[0])))
    y = through(block, x)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}, y


def take(path, names, changes=(), **known):
    """Definitions out of a source file, without their decorators and annotations: classes, functions, and methods as functions; also by .NAME (of the module) and CLASS.NAME."""
    text = pathlib.Path(path).read_text()
    for old, new in changes:
        if old not in text:
            sys.exit(f"{path} has no '{old}' any more")
        text = text.replace(old, new)
    space = {"torch": torch, "nn": nn, "math": math, "time": time, "inspect": __import__("inspect"), "functools": __import__("functools"), "Tensor": torch.Tensor, **known}
    for owner, node in ((owner, node) for owner in ast.walk(ast.parse(text)) for node in ast.iter_child_nodes(owner)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (node.name in names or f"{getattr(owner, 'name', '')}.{node.name}" in names):
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef):
                    inner.decorator_list = [item for item in inner.decorator_list if isinstance(node, ast.ClassDef) and ast.unparse(item) == "classmethod"]
                    inner.returns = None
                    for argument in [*inner.args.args, *inner.args.kwonlyargs]:
                        argument.annotation = None
            exec(compile(ast.Module([node], []), str(path), "exec"), space)
    return space


def awq_tools(source, bits, group):
    """AutoAWQ's quantizer, its functions that apply factors and ranges, and its list of what is scaled in a block of a LLaMA."""
    source = pathlib.Path(source, "awq")
    module = take(source / "utils/module.py", {"get_op_by_name", "get_op_name", "set_op_by_name"})
    # On a processor .cpu() copies nothing, and the search would not put the weights back after a candidate.
    search = take(
        source / "quantize/quantizer.py",
        {"pseudo_quantize_tensor", "_module_forward", "_search_best_scale", "_compute_best_scale", "_compute_loss", "_search_best_clip", "_compute_best_clip", "_sanitize_kwargs"},
        [("k: v.cpu() for k, v in module2inspect", "k: v.cpu().clone() for k, v in module2inspect")],
        clear_memory=lambda *_: None, get_best_device=lambda: "cpu", get_op_name=module["get_op_name"], logging=None, **vars(typing))
    unknown = type("Unknown", (), {})
    apply = take(
        source / "quantize/scale.py", {"apply_clip", "apply_scale", "scale_ln_fcs", "scale_fc_fc", "scale_fc_fcs", "scale_gelu_fc"},
        get_best_device=lambda: "cpu", get_op_by_name=module["get_op_by_name"], set_op_by_name=module["set_op_by_name"], allowed_norms=[LlamaRMSNorm], allowed_act_fns=(nn.GELU,),
        GemmaRMSNorm=unknown, Gemma2RMSNorm=unknown, ScaledActivation=None, Tuple=typing.Tuple, List=typing.List)
    scaling = take(source / "models/llama.py", {"get_layers_for_scaling"}, OldLlamaDecoderLayer=None)["get_layers_for_scaling"]
    methods = {name: function for name, function in search.items() if isinstance(function, types.FunctionType) and name not in ("clear_memory", "get_best_device", "get_op_name")}
    quantizer = type("Quantizer", (), methods)()
    quantizer.w_bit, quantizer.group_size, quantizer.zero_point, quantizer.duo_scaling = bits, group, True, True
    quantizer.n_parallel_calib_samples, quantizer.max_chunk_memory = 16, 1 << 30
    return quantizer, apply, scaling


def awq_round(quantizer, layer, bits, group, half):
    values, steps, zeros = quantizer.pseudo_quantize_tensor(layer.weight.data)
    wide, zeros = (item.repeat_interleave(group, 1) for item in (steps, zeros))
    # As WQLinear_GEMM stores it: scales in F16.
    stored = steps.half().float().repeat_interleave(group, 1) if half else wide
    return (torch.clamp(torch.round((values + wide * zeros) / wide), 0, 2 ** bits - 1) - zeros) * stored


def awq(blocks, x, source, bits, group, *_):
    quantizer, apply, scaling = awq_tools(source, bits, group)
    for index, block in enumerate(blocks):
        linears = {name: layer for name, layer in block.named_modules() if isinstance(layer, nn.Linear)}
        features, x = inputs_of(block, linears, x)
        scales = [quantizer._search_best_scale(block, **layer) for layer in scaling(block, features, {})]
        apply["apply_scale"](block, scales, input_feat_dict=features)
        apply["apply_clip"](block, quantizer._search_best_clip(block, linears, features))
        for layer in linears.values():
            layer.weight.data = awq_round(quantizer, layer, bits, group, half=True)
        print(f"block {index}", file=sys.stderr)


def awq_errors(arguments):
    """Output errors of the layers that the bench awq-error measured, by AutoAWQ's search on the same inputs, those of the dense model: ours by theirs."""
    folder = pathlib.Path(arguments.samples_folder)
    ours = {}
    for line in (folder / "errors.txt").read_text().splitlines():
        path, bits, group, error = line.split()
        ours.setdefault((int(bits), int(group)), {})[path] = float(error)
    ids = torch.tensor([[int(id) for id in line.split()] for line in (folder / "samples.txt").read_text().splitlines()])
    for (bits, group), errors in ours.items():
        quantizer, apply, scaling = awq_tools(arguments.source, bits, group)
        _, blocks, embedding = opened(arguments.model)
        x, shares = embedding[ids], {}
        for index, block in enumerate(blocks):
            names = [name for name, layer in block.named_modules() if isinstance(layer, nn.Linear)]
            features, y = inputs_of(block, names, x)
            # Each input by itself, from the dense block: factors of one divide the rows of another.
            found = scaling(block, dict(features), {})
            groups = [[(name, layer)] for name, layer in block.named_modules() if isinstance(layer, nn.Linear) and not any(layer is item for scaled in found for item in scaled["layers"])]
            for scaled in found:
                groups.append([(name, layer) for name, layer in block.named_modules() if any(layer is item for item in scaled["layers"])])
            for number, members in enumerate(groups):
                alone = copy.deepcopy(block)
                inputs = {name: features[name].clone() for name, _ in members}
                if number >= len(groups) - len(found):
                    again = scaling(alone, {**features, **inputs}, {})[number - (len(groups) - len(found))]
                    apply["apply_scale"](alone, [quantizer._search_best_scale(alone, **again)], input_feat_dict=inputs)
                layers = {name: dict(alone.named_modules())[name] for name, _ in members}
                apply["apply_clip"](alone, quantizer._search_best_clip(alone, layers, inputs))
                error = mine = 0
                for name, dense in members:
                    change = inputs[name] @ awq_round(quantizer, layers[name], bits, group, half=False).T - features[name] @ dense.weight.T
                    error += float(change.double().pow(2).sum()) / ids.numel()
                    mine += errors[f"model.layers.{index}.{name}"]
                shares[f"{index} {'+'.join(name for name, _ in members)}"] = mine / error
            x = y
        for name, share in shares.items():
            print(f"{bits} bit, group {group}: {name}: {share:.4f}")
        values = sorted(shares.values())
        print(json.dumps({"bits": bits, "group": group, "inputs": len(values), "least": values[0], "median": float(np.median(values)), "largest": values[-1]}), flush=True)


def gptq_tools(source):
    """The authors' solver and their quantizer."""
    quant = take(pathlib.Path(source, "quant.py"), {".quantize", "Quantizer"})
    solver = take(
        pathlib.Path(source, "gptq.py"), {"GPTQ"}, [("torch.cuda.synchronize()", "pass"), ("torch.cuda.empty_cache()", "pass")],
        transformers=types.SimpleNamespace(Conv1D=type("Conv1D", (), {})), DEBUG=False, Quantizer=quant["Quantizer"], quantize=quant["quantize"], print=lambda *_: None)["GPTQ"]
    return solver, quant["Quantizer"]


def gptq(blocks, x, source, bits, group, act_order, damping):
    solver, quantizer = gptq_tools(source)
    for index, block in enumerate(blocks):
        layers = dict(block.named_modules())
        for names in (["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj"], ["self_attn.o_proj"], ["mlp.up_proj", "mlp.gate_proj"], ["mlp.down_proj"]):
            features, _ = inputs_of(block, names, x)
            for name in names:
                work = solver(layers[name])
                work.quantizer = quantizer()
                work.quantizer.configure(bits, perchannel=True, sym=False, mse=False)
                for sample in features[name]:
                    work.add_batch(sample, None)
                # Their grids miss the updates of the block at hand unless a block of columns is a group.
                work.fasterquant(blocksize=group, percdamp=damping, groupsize=group, actorder=act_order)
        x = through(block, x)
        print(f"block {index}", file=sys.stderr)


def gptq_errors(arguments):
    """Errors of the layers that the bench layer-error wrote, by the authors' solver on the same matrices and Gram matrices: ours by theirs."""
    solver, quantizer = gptq_tools(arguments.source)
    folder = pathlib.Path(arguments.samples_folder)
    shares = {}
    for line in (folder / "errors.txt").read_text().splitlines():
        layer, settings, ours = line.split()
        given = dict(item.split("=") for item in settings.split(":")[1].split(","))
        [file] = folder.glob(f"{layer}.*.w")
        rows, columns = (int(part) for part in file.name[len(layer) + 1:-2].split("."))
        weight = torch.from_numpy(np.fromfile(file, np.float32).reshape(rows, columns))
        gram = torch.from_numpy(np.fromfile(file.with_suffix(".h"), np.float32).reshape(columns, columns))
        group = int(given["group_size"])
        # Blocks of their default hold back the updates that a narrower group's grid should see.
        for block in sorted({128, group if group > 0 else 128}):
            work = solver(linear(weight.clone()))
            work.H = gram.clone()
            work.quantizer = quantizer()
            work.quantizer.configure(int(given["bits"]), perchannel=True, sym="symmetric" in given, mse=False)
            work.fasterquant(blocksize=block, percdamp=0.01, groupsize=group, actorder="act_order" in given)
            change = (weight - work.layer.weight.data).double()
            whole = weight.double()
            error = ((change @ gram.double()) * change).sum() / ((whole @ gram.double()) * whole).sum()
            shares.setdefault((settings, block), []).append(float(ours) / float(error))
    for (settings, block), values in shares.items():
        print(json.dumps({"settings": settings, "their_block": block, "layers": len(values), "least": min(values), "median": float(np.median(values)), "largest": max(values)}), flush=True)


def hqq(blocks, x, source, bits, group, *_):
    optimize = take(pathlib.Path(source, "hqq/core/optimize.py"), {"shrink_lp_op", "optimize_weights_proximal_legacy_step", "optimize_weights_proximal_legacy"}, np=np, float32=torch.float32, float16=torch.float16, Union=typing.Union)
    parts = take(pathlib.Path(source, "hqq/core/quantize.py"), {"Quantizer.quantize"}, is_divisible=lambda a, b: a % b == 0, **vars(typing))
    work = optimize["optimize_weights_proximal_legacy"]
    name = {8: "8bit_u8", 4: "4bit_u8", 3: "3bit_32", 2: "2bit_u8", 1: "1bit_u8"}
    owner = types.SimpleNamespace(
        SUPPORTED_BITS=[bits], bit_to_packing=name, unpack_view_dtype={name[bits]: torch.uint8},
        optimize_weights=lambda tensor, scale, zero, min_max, axis, device: work(tensor=tensor, scale=scale, zero=zero, min_max=min_max, axis=axis, device="cpu"))
    parts["Quantizer"] = owner
    for block in blocks:
        for layer in (layer for layer in block.modules() if isinstance(layer, nn.Linear)):
            codes, meta = parts["quantize"](owner, layer.weight.data, nbits=bits, group_size=group, axis=1, bitpack=False, device="cpu", round_zero=bits == 4)
            # As HQQLinear keeps them by default: F16.
            zero, scale = meta["zero"].half().float(), meta["scale"].half().float()
            layer.weight.data = ((codes - zero) * scale).reshape(meta["shape"])


def write(folder, model, weights, blocks):
    """A dense folder in F32."""
    folder.mkdir()
    for file in pathlib.Path(model).iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, folder)
    for index, block in enumerate(blocks):
        for name, value in block.state_dict().items():
            weights[f"model.layers.{index}.{name}"] = value
    header, body = {}, []
    for name, value in sorted(weights.items()):
        begin = sum(map(len, body))
        body.append(value.contiguous().float().numpy().tobytes())
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [begin, begin + len(body[-1])]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(body))


def run(*arguments):
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}: {done.stderr[-1500:]}")
    return done.stdout


# 97.5 % quantiles of Student's t, by degrees of freedom.
STUDENT = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306]


def compare(arguments, seed):
    """Both quantize with the samples of a seed; perplexities, and the loss of ours less theirs with its interval over the text."""
    weights, blocks, embedding = opened(arguments.model)
    lines = pathlib.Path(arguments.samples_folder, f"calibration-{seed}.txt").read_text().splitlines()[:arguments.samples]
    ids = torch.tensor([[int(id) for id in line.split()] for line in lines])
    start = time.time()
    globals()[arguments.method](
        blocks, embedding[ids], arguments.source, arguments.bits, arguments.group_size, arguments.act_order, arguments.damping)
    seconds = time.time() - start
    theirs, ours, baseline = (pathlib.Path(arguments.work, name) for name in ("theirs", "ours", "baseline"))
    for folder in (theirs, ours, baseline):
        shutil.rmtree(folder, ignore_errors=True)
    write(theirs, arguments.model, weights, blocks)
    calibration = [] if arguments.method == "hqq" else ["--data", "demo", "--samples", len(ids), "--sample-length", ids.shape[1], "--seed", seed]
    if arguments.method == "gptq":
        calibration += ["--damping", arguments.damping, *(["--act-order", "true"] if arguments.act_order else [])]
    made = json.loads(run(
        arguments.nibble, "quantize", arguments.model, "--method", arguments.method, "--bits", arguments.bits, "--group-size", arguments.group_size,
        *(["--layout", "compressed-tensors"] if arguments.method != "hqq" else []), *calibration, "-o", ours, "--json"))
    measure = ["--data", arguments.data, "--protocol", "blocks", "--window", ids.shape[1], "--limit", arguments.limit, "--tasks", "perplexity", "--json"]
    first = json.loads(run(arguments.nibble, "eval", theirs, *measure, "--save-baseline", baseline))
    second = json.loads(run(arguments.nibble, "eval", ours, *measure, "--baseline", baseline))
    return {"seed": seed, "theirs": first["metrics"]["perplexity"], "ours": second["metrics"]["perplexity"], "nll_delta": second["metrics"]["nll_delta"],
            "interval": second["intervals"]["nll_delta"], "their_seconds": round(seconds, 1), "our_seconds": made["metrics"]["seconds"]}


def mean(results):
    """The mean difference over seeds, with an interval that joins both chances."""
    deltas = np.array([result["nll_delta"] for result in results])
    seeds = STUDENT[len(deltas) - 1] * deltas.std(ddof=1) / math.sqrt(len(deltas))
    text = np.mean([(result["interval"][1] - result["interval"][0]) / 2 for result in results])
    half = math.hypot(seeds, text)
    return {"theirs": float(np.mean([result["theirs"] for result in results])), "ours": float(np.mean([result["ours"] for result in results])),
            "nll_delta": float(deltas.mean()), "interval": [float(deltas.mean() - half), float(deltas.mean() + half)], "of_seeds": float(seeds), "of_text": float(text)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["awq", "awq-error", "gptq", "gptq-error", "hqq"])
    for name in ("nibble", "model", "samples_folder", "work"):
        parser.add_argument(name)
    parser.add_argument("--source", required=True, help="checkout of the authors' project")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--act-order", action="store_true")
    parser.add_argument("--damping", type=float, default=0.01)
    parser.add_argument("--samples", type=int, default=32, help="of each seed's file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1234])
    parser.add_argument("--data", default="demo", help="text that both are measured on")
    parser.add_argument("--limit", type=int, default=51200)
    arguments = parser.parse_args()
    pathlib.Path(arguments.work).mkdir(parents=True, exist_ok=True)
    if arguments.method in ("awq-error", "gptq-error"):
        globals()[arguments.method.replace("-error", "_errors")](arguments)
        return
    results = []
    for seed in arguments.seeds:
        results.append(compare(arguments, seed))
        print(json.dumps(results[-1]), flush=True)
    if len(results) > 1:
        print(json.dumps(mean(results)))


if __name__ == "__main__":
    main()
