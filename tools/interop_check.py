#!/usr/bin/env python3
"""Reads a folder that nibble quantize wrote with other projects' own dequantization routines and compares the values.

    nibble quantize MODEL --method gptq … -o Q        (a LLaMA-type model: the routines know nn.Linear only)
    nibble convert Q D --type f32                     (what Nibble itself reads)
    tools/interop_check.py gptq Q D --source PATH     (a checkout of the project)

Kinds and what is taken from the checkout: awq (AutoAWQ awq/utils/packing_utils.py), bnb4 (bitsandbytes
bitsandbytes/backends/default/ops.py), ct (compressed-tensors .../pack_quantized/helpers.py), gptq (GPTQModel
gptqmodel/nn_modules/qlinear/__init__.py), hqq (hqq/core/bitpack.py); int8 needs none. Single functions are taken out of the
files, so that nothing of the projects has to be installed. Needs PyTorch; with versions before 2 indices are widened to 64 bits.
"""
import argparse
import ast
import json
import math
import pathlib
import struct
import sys
import types
import typing

import numpy as np
import torch

NUMPY = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "U8": np.uint8, "I8": np.int8, "I64": np.int64, "BF16": np.uint16}


def load(folder):
    """All tensors of a folder with one safetensors file."""
    data = pathlib.Path(folder, "model.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        values = torch.from_numpy(np.frombuffer(data[begin:end], NUMPY[entry["dtype"]]).reshape(entry["shape"]).astype(
            np.int32 if entry["dtype"] == "BF16" else NUMPY[entry["dtype"]]))
        tensors[name] = values.bitwise_left_shift(16).view(torch.float32) if entry["dtype"] == "BF16" else values
    return tensors


def take(source, file, names, **known):
    """Functions out of a file of a checkout, without the rest of it; a method becomes a function of self."""
    text = pathlib.Path(source, file).read_text()
    for narrow, wide in (("dtype=torch.int32,\n        device=izeros", "dtype=torch.int64,\n        device=izeros"), ("code[out_dq]", "code[out_dq.long()]")):
        text = text.replace(narrow, wide)
    space = {"torch": torch, "t": torch, "prod": math.prod, "Union": typing.Union, "Literal": typing.Literal, **known}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign) and node.targets[0].__class__ is ast.Name and node.targets[0].id.startswith("AWQ_"):
            exec(compile(ast.Module([node], []), file, "exec"), space)
        if isinstance(node, ast.FunctionDef) and node.name in names:
            node.decorator_list, node.returns = [], None
            for argument in node.args.args:
                argument.annotation = None
            exec(compile(ast.Module([node], []), file, "exec"), space)
    return [space[name] for name in names]


def awq(q, module, config, source):
    dequantize, *_ = take(source, "awq/utils/packing_utils.py", ["dequantize_gemm", "unpack_awq", "reverse_awq_order"])
    return dequantize(q[module + ".qweight"], q[module + ".qzeros"], q[module + ".scales"].float(), config["bits"], config["group_size"]).T


def bnb4(q, module, config, source):
    values, scales = take(source, "bitsandbytes/backends/default/ops.py", ["_dequantize_4bit_compute", "_dequantize_blockwise_compute"])
    key = next(name for name in q if name.startswith(module + ".weight.quant_state.bitsandbytes__"))
    state = json.loads(q[key].numpy().tobytes())
    absmax = q[module + ".weight.absmax"]
    if "nested_offset" in state:
        absmax = scales(absmax.reshape(-1), q[module + ".weight.nested_absmax"], q[module + ".weight.nested_quant_map"], state["nested_blocksize"], torch.float32)
        absmax = absmax + state["nested_offset"]
    return values(q[module + ".weight"].reshape(-1), absmax, q[module + ".weight.quant_map"], state["blocksize"], state["shape"], torch.float32)


def ct(q, module, config, source):
    [unpack] = take(source, "src/compressed_tensors/compressors/pack_quantized/helpers.py", ["unpack_from_int32"])
    bits = next(iter(config["config_groups"].values()))["weights"]["num_bits"]
    rows, columns = (int(extent) for extent in q[module + ".weight_shape"])
    scale = q[module + ".weight_scale"].float()
    zero = torch.zeros_like(scale)
    if module + ".weight_zero_point" in q:
        zero = unpack(q[module + ".weight_zero_point"], bits, torch.Size([rows, scale.shape[1]]), packed_dim=0).float()
    group = columns // scale.shape[1]
    codes = unpack(q[module + ".weight_packed"], bits, torch.Size([rows, columns])).float()
    return (codes - zero.repeat_interleave(group, 1)) * scale.repeat_interleave(group, 1)


def gptq(q, module, config, source):
    dequantize, finish = take(
        source, "gptqmodel/nn_modules/qlinear/__init__.py", ["dequantize_weight", "_dequantize_from_codes"],
        _torch_right_shift=torch.bitwise_right_shift, _torch_left_shift=torch.bitwise_left_shift)
    bits = config["bits"]
    if bits == 3:
        # Three words hold 32 codes; the two that cross a border are put together by the routine itself.
        starts = [[*range(0, 31, 3), 0], [0, *range(1, 32, 3)], [0, *range(2, 30, 3), 0]]
        shifts = torch.tensor(starts, dtype=torch.int32).reshape(1, 3, 12)
    else:
        shifts = torch.tensor(list(range(0, 32, bits)), dtype=torch.int32).unsqueeze(0)
    zeros = q[module + ".qzeros"]
    if config.get("checkpoint_format", "gptq") == "gptq":
        zeros = second_form(zeros, bits)
    layer = types.SimpleNamespace(
        planar=False, qzeros=zeros, qweight=q[module + ".qweight"], scales=q[module + ".scales"].float(),
        g_idx=q[module + ".g_idx"], bits=bits, maxq=2 ** bits - 1, pack_factor=32 // bits, dequant_dtype=torch.int16 if bits == 8 else torch.int8,
        wf_unsqueeze_zero=shifts.unsqueeze(0), wf_unsqueeze_neg_one=shifts.unsqueeze(-1), _init_wf_unsqueeze_buffers=lambda: None)
    layer._dequantize_from_codes = lambda codes, zeros, num_itr=1: finish(layer, codes, zeros, num_itr)
    return dequantize(layer).T


def second_form(zeros, bits):
    """Files of the first form hold zero points less one; GPTQModel adds one to each packed field when it loads them."""
    one_in_each = {2: [0x55555555], 4: [0x11111111], 8: [0x01010101], 3: [0x24924924, 0x92492492, 0x49249249]}[bits]
    wide = zeros.to(torch.int64) & 0xFFFFFFFF
    for i, ones in enumerate(one_in_each):
        wide[:, i::len(one_in_each)] += ones
    return torch.from_numpy((wide & 0xFFFFFFFF).numpy().astype(np.uint32).view(np.int32).copy())


def hqq(q, module, config, source):
    names = {8: "unpack_8bit_u8", 4: "unpack_4bit_u8", 3: "unpack_3bit_32", 2: "unpack_2bit_u8", 1: "unpack_1bit_u8"}
    settings = config["quant_config"]["weight_quant_params"]
    [unpack] = take(source, "hqq/core/bitpack.py", [names[settings["nbits"]]], uint8=torch.uint8)
    shape = [int(extent) for extent in q[module + ".shape"]]
    codes = unpack(q[module + ".W_q"], dtype=torch.float32)
    if settings["nbits"] == 3:
        codes = codes[:settings["group_size"] if settings["axis"] == 0 else math.prod(shape) // settings["group_size"]]
    return ((codes - q[module + ".zero"].float()) * q[module + ".scale"].float()).reshape(shape)


def int8(q, module, config, source):
    return q[module + ".weight"].float() * q[module + ".SCB"].float()[:, None] / 127


def main():
    kinds = {function.__name__: function for function in (awq, bnb4, ct, gptq, hqq, int8)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("quantized")
    parser.add_argument("dense")
    parser.add_argument("--source", default=".", help="checkout of the project")
    arguments = parser.parse_args()
    q, dense = load(arguments.quantized), load(arguments.dense)
    config = json.loads(pathlib.Path(arguments.quantized, "config.json").read_text())["quantization_config"]
    modules = [name[:-len(".weight")] for name in dense if "_proj.weight" in name]
    worst, differing, total = 0.0, 0, 0
    for module in modules:
        ours, theirs = dense[module + ".weight"].double(), kinds[arguments.kind](q, module, config, arguments.source).double()
        if ours.shape != theirs.shape:
            sys.exit(f"{module}: {tuple(ours.shape)} and {tuple(theirs.shape)}")
        worst = max(worst, ((ours - theirs).abs().max() / ours.abs().max()).item())
        differing += int((ours != theirs).sum())
        total += ours.numel()
    print(f"{len(modules)} matrices, {differing:,} of {total:,} values differ, the most by {worst:.1e} of the largest value")
    sys.exit(0 if worst < 1e-6 else 1)


if __name__ == "__main__":
    main()
