#!/usr/bin/env python3
"""Opens what Nibble writes with transformers and the libraries behind it, opens in Nibble what they write, and compares losses token by token.

    tools/clients_check.py NIBBLE MODEL WORK [--only NAME …] [--device cuda]

NIBBLE is the command, MODEL a dense LLaMA-type folder, WORK an empty folder. Needs PyTorch, transformers and, for each client, its
library (bitsandbytes, hqq, optimum-quanto, compressed-tensors, PEFT; optimum and GPTQModel for gptq and awq); a client that does not load is printed with its reason and is not counted.
Per token: -log p of the next token in F32, one window of 300 tokens. 'ours': the client opens Nibble's file. 'theirs': Nibble opens the client's.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import traceback

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = None
TOKENS = 300
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
QUICK = ["--data", "demo", "--samples", "16", "--sample-length", "128"]
# name: (arguments of nibble quantize, what the client is asked to make itself: None where it cannot)
CASES = {
    "bnb-nf4": (["--method", "nf4"], lambda: transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)),
    "bnb-nf4-double": (["--method", "nf4", "--double-quant"], lambda: transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32)),
    "bnb-fp4": (["--method", "fp4"], lambda: transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_compute_dtype=torch.float32)),
    "bnb-int8": (["--method", "int8"], lambda: transformers.BitsAndBytesConfig(load_in_8bit=True)),
    "hqq-4": (["--method", "hqq", "--bits", "4", "--group-size", "64"], 4),
    "hqq-3": (["--method", "hqq", "--bits", "3", "--group-size", "64"], 3),
    "bitnet": (["--method", "ternary"], None),
    "quanto-8": (["--method", "quanto", "--bits", "8"], "qint8"),
    "quanto-4": (["--method", "quanto", "--bits", "4"], "qint4"),
    "ct-4": (["--method", "rtn", "--bits", "4", "--group-size", "64", "--layout", "compressed-tensors"], None),
    "ct-gptq-4": (["--method", "gptq", "--bits", "4", "--group-size", "64", "--layout", "compressed-tensors", *QUICK], None),
    "gptq-4": (["--method", "gptq", "--bits", "4", "--group-size", "64", *QUICK],
               lambda: transformers.GPTQConfig(bits=4, group_size=64, sym=False, dataset=prose(), tokenizer=str(MODEL), backend="gptq_torch")),
    "gptq-4-order": (["--method", "gptq", "--bits", "4", "--group-size", "64", "--act-order", *QUICK], None),
    "gptq-3": (["--method", "gptq", "--bits", "3", "--group-size", "64", *QUICK], None),
    "awq-4": (["--method", "awq", "--bits", "4", "--group-size", "64", *QUICK], None),
}


def prose():
    """Texts that the client calibrates with."""
    text = (ROOT / "assets" / "text" / "calibration.txt").read_text()
    return [text[at:at + 2000] for at in range(0, 32000, 2000)]


def run(*arguments):
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr[-1500:]}")
    return done.stdout


def nibble_losses(nibble, folder, text, work, *arguments):
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    # BitNet's layers round their inputs to 8 bits in transformers.
    rounded = config.get("quantization_config", {}).get("quant_method") == "bitnet"
    run(nibble, "eval", folder, "--data", text, "--limit", TOKENS, "--tasks", "perplexity", "--save-baseline", work, "--json", *(["--activations", "int8"] if rounded else []), *arguments)
    return np.fromfile(work / "losses.f32", np.float32)


def losses(model, ids):
    with torch.no_grad():
        logits = model(ids).logits[0, :-1].float()
    return torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").cpu().numpy()


def dense_compute(folder):
    """bitsandbytes multiplies in the dtype that the configuration names; F32 shows the codes and not the rounding of sums."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if "bnb_4bit_compute_dtype" in config["quantization_config"]:
        config["quantization_config"]["bnb_4bit_compute_dtype"] = "float32"
    path.write_text(json.dumps(config))


def load(folder, device, config=None, dense=None):
    if (pathlib.Path(folder) / "quanto_qmap.json").exists():
        from optimum.quanto import QuantizedModelForCausalLM
        return QuantizedModelForCausalLM.from_pretrained(folder).to(device)
    if dense is not None:
        return load_hqq(folder, dense, device)
    extra = {"quantization_config": config} if config is not None else {}
    dtype = torch.float32
    method = json.loads((pathlib.Path(folder) / "config.json").read_text()).get("quantization_config", {}).get("quant_method")
    if method in ("gptq", "awq") or isinstance(config, transformers.GPTQConfig):
        # GPTQModel's layers compute in 16 bits; its kernels in PyTorch need no compiler.
        dtype = torch.float16
        extra = extra or {"quantization_config": transformers.GPTQConfig(bits=4, backend="gptq_torch") if method == "gptq" else transformers.AwqConfig(backend="torch_awq")}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map={"": device}, attn_implementation="eager", **extra)


def hqq_layers(model, device, layer_of):
    """Puts hqq's own layers into the blocks of a dense model (transformers 5 neither reads nor writes quantized HQQ models)."""
    for path, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and path.startswith("model.layers."):
            parent, name = path.rsplit(".", 1)
            setattr(model.get_submodule(parent), name, layer_of(path, module))
    return model.to(device)


def load_hqq(folder, dense, device):
    from hqq.core.quantize import HQQLinear
    from safetensors.torch import load_file
    tensors = load_file(folder / "model.safetensors")

    def layer_of(path, _):
        layer = HQQLinear(None, None, compute_dtype=torch.float32, device=device)
        layer.load_state_dict({name[len(path) + 1:]: value for name, value in tensors.items() if name.startswith(path + ".")})
        return layer

    return hqq_layers(AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32, attn_implementation="eager"), device, layer_of)


def make_hqq(bits, dense, target, device):
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
    from safetensors.torch import save_file
    settings = BaseQuantizeConfig(nbits=bits, group_size=64, axis=1)
    model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32, attn_implementation="eager")
    saved = {name: value for name, value in model.state_dict().items() if not name.startswith("model.layers.") or "norm" in name}
    saved.pop("lm_head.weight", None)

    def layer_of(path, module):
        layer = HQQLinear(module, settings, compute_dtype=torch.float32, device=device, del_orig=False)
        saved.update({f"{path}.{name}": value for name, value in layer.state_dict().items()})
        return layer

    model = hqq_layers(model, device, layer_of)
    target.mkdir()
    save_file({name: value.detach().cpu().contiguous() for name, value in saved.items()}, target / "model.safetensors")
    config = json.loads((dense / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "hqq", "quant_config": settings, "skip_modules": ["lm_head"]}
    (target / "config.json").write_text(json.dumps(config))
    return model


def theirs(make, model, target, device):
    if isinstance(make, int):
        return make_hqq(make, model, target, device)
    if isinstance(make, str):
        from optimum import quanto
        dense = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        quantized = quanto.QuantizedModelForCausalLM.quantize(dense, weights=getattr(quanto, make), exclude="lm_head")
        quantized.save_pretrained(target)
        return quantized.to(device)
    quantized = load(model, device, make())
    quantized.save_pretrained(target)
    return quantized


def line(name, direction, mine, other):
    gap = np.abs(mine - other)
    same = "same" if gap.max() < 1e-3 else "close" if abs(mine.mean() - other.mean()) < 5e-3 else "DIFFERENT"
    print(f"{name:15} {direction:6} nibble {mine.mean():.5f} client {other.mean():.5f} largest difference of a token {gap.max():.2e} mean {gap.mean():.2e} {same}", flush=True)


def check(name, options, ids, text):
    arguments, make = CASES[name]
    work = options.work / name
    folder = work / "ours"
    work.mkdir(parents=True)
    source = options.model
    if isinstance(make, str):
        # optimum-quanto computes in the dtype of the scales: F32 shows the codes and not the rounding of sums.
        source = work / "f32"
        run(options.nibble, "convert", options.model, source, "--type", "f32")
    run(options.nibble, "quantize", source, *arguments, "-o", folder)
    mine = nibble_losses(options.nibble, folder, text, work / "b1")
    attempt(name, "ours", lambda: (dense_compute(folder), line(name, "ours", mine, losses(load(folder, options.device, dense=options.model if isinstance(make, int) else None), ids))))
    if make is not None:
        attempt(name, "theirs", lambda: other_way(name, make, options, ids, text, work))


def other_way(name, make, options, ids, text, work):
    client = losses(theirs(make, options.model, work / "theirs", options.device), ids)
    for file in TOKENIZER:
        shutil.copy(options.model / file, work / "theirs")
    line(name, "theirs", nibble_losses(options.nibble, work / "theirs", text, work / "b2"), client)


def adapters(options, ids, text):
    """LoRA: PEFT opens Nibble's adapter and Nibble PEFT's, beside the dense model and merged into it."""
    import peft
    work = options.work / "lora"
    work.mkdir()
    run(options.nibble, "finetune", options.model, "--method", "lora", "--target-modules", "all-linear", "--data", text, "--max-seq-length", "128", "--max-steps", "4", "--learning-rate", "1e-2", "-o", work / "ours")
    dense = lambda: AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="eager")  # noqa: E731
    client = peft.PeftModel.from_pretrained(dense(), work / "ours").to(options.device)
    line("lora", "ours", nibble_losses(options.nibble, options.model, text, work / "b1", "--adapter", work / "ours"), losses(client, ids))
    run(options.nibble, "merge", options.model, "--adapter", work / "ours", "--dtype", "f32", "-o", work / "merged")
    line("lora merged", "ours", nibble_losses(options.nibble, work / "merged", text, work / "b2"), losses(load(work / "merged", options.device), ids))

    settings = peft.LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
    torch.manual_seed(1)
    client = peft.get_peft_model(dense(), settings).to(options.device)
    with torch.no_grad():
        for name, parameter in client.named_parameters():
            if "lora_" in name:
                parameter.mul_(0.2)
    client.save_pretrained(work / "theirs")
    found = losses(client, ids)
    line("lora", "theirs", nibble_losses(options.nibble, options.model, text, work / "b3", "--adapter", work / "theirs"), found)
    client.merge_and_unload().save_pretrained(work / "theirs-merged")
    for file in TOKENIZER:
        shutil.copy(options.model / file, work / "theirs-merged")
    line("lora merged", "theirs", nibble_losses(options.nibble, work / "theirs-merged", text, work / "b4"), found)


def attempt(name, direction, action):
    try:
        action()
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        print(f"{name:15} {direction:6} not run: {type(error).__name__}: {str(error).strip()[-400:]} ({pathlib.Path(where.filename).name}:{where.lineno})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nibble", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", choices=[*CASES, "lora"])
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    options.work.mkdir(parents=True)
    global MODEL
    MODEL = options.model
    text = options.work / "text.txt"
    source = ROOT / "assets" / "text" / "test.txt"
    text.write_text(source.read_text()[:4000])
    ids = AutoTokenizer.from_pretrained(options.model)(text.read_text(), return_tensors="pt").input_ids[:, :TOKENS].to(options.device)
    line("dense", "both", nibble_losses(options.nibble, options.model, text, options.work / "b0"), losses(load(options.model, options.device), ids))
    for name in options.only or [*CASES, "lora"]:
        attempt(name, "both", lambda: adapters(options, ids, text) if name == "lora" else check(name, options, ids, text))


if __name__ == "__main__":
    main()
