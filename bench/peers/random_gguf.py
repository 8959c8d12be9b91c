"""Writes GGUF models of random blocks at the shapes of the bench `models`, for a peer: speeds do not depend on what the numbers are.

python3 bench/peers/random_gguf.py FOLDER, then `models --peer llama-bench=PATH --peer-models FOLDER`. Every matrix has one type: F16,
Q8_0, Q4_0, and for ternary ik_llama.cpp's IQ2_BN. There is no vocabulary: llama-bench needs none. 2.5 GB in all. Needs numpy.
"""

import pathlib
import struct
import sys

import numpy as np

F32, F16, Q4_0, Q8_0, IQ2_BN = 0, 1, 2, 8, 135
RANDOM = np.random.default_rng(1)


def scaled(count, scale, fields):
    """Blocks of 32 with a scale in F16 and whole numbers."""
    name, dtype, width, low, high = fields
    blocks = np.zeros(count // 32, dtype=[('scale', 'f2'), (name, dtype, width)])
    blocks['scale'] = RANDOM.uniform(0.5, 1.5, count // 32) * scale
    blocks[name] = RANDOM.integers(low, high, (count // 32, width), dtype=dtype)
    return blocks.tobytes()


def matrix(kind, rows, columns):
    count = rows * columns
    if kind == Q8_0:
        return scaled(count, 4e-4, ('codes', np.int8, 32, -127, 128))
    if kind == Q4_0:
        return scaled(count, 6e-3, ('codes', np.uint8, 16, 0, 256))
    if kind == IQ2_BN:
        blocks = np.zeros(rows, dtype=[('scale', 'f4'), ('codes', 'u1', columns // 4)])
        codes = RANDOM.integers(0, 3, (4, rows, columns // 4), dtype=np.uint8)
        blocks['scale'], blocks['codes'] = 0.03, codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6
        return blocks.tobytes()
    return RANDOM.uniform(-0.05, 0.05, count).astype(np.float32 if kind == F32 else np.float16).tobytes()


def size(kind, rows, columns):
    count = rows * columns
    return {F32: 4 * count, F16: 2 * count, Q8_0: count // 32 * 34, Q4_0: count // 32 * 18, IQ2_BN: rows * (4 + columns // 4)}[kind]


def text(value):
    return struct.pack('<Q', len(value)) + value.encode()


def pair(name, value):
    if isinstance(value, str):
        return text(name) + struct.pack('<I', 8) + text(value)
    return text(name) + struct.pack('<I', 6 if isinstance(value, float) else 4) + struct.pack('<f' if isinstance(value, float) else '<I', value)


def write(path, keys, tensors):
    """tensors: name, shape as PyTorch has it, type."""
    with open(path, 'wb') as file:
        file.write(b'GGUF' + struct.pack('<IQQ', 3, len(tensors), len(keys)))
        for item in keys.items():
            file.write(pair(*item))
        offset = 0
        for name, shape, kind in tensors:
            dims = struct.pack(f'<I{len(shape)}Q', len(shape), *reversed(shape))
            file.write(text(name) + dims + struct.pack('<IQ', kind, offset))
            offset += -(-size(kind, *((1, *shape)[-2:])) // 32) * 32
        file.write(bytes(-file.tell() % 32))
        for _, shape, kind in tensors:
            file.write(matrix(kind, *((1, *shape)[-2:])))
            file.write(bytes(-file.tell() % 32))


def common(arch, context, width, layers, inner, heads, vocabulary):
    keys = {'context_length': context, 'embedding_length': width, 'block_count': layers, 'feed_forward_length': inner, 'attention.head_count': heads, 'vocab_size': vocabulary}
    return {'general.architecture': arch, 'general.name': 'random', 'tokenizer.ggml.model': 'no_vocab'} | {f'{arch}.{key}': value for key, value in keys.items()}


def llama(path, kind):
    width, inner, layers, shared, vocabulary = 2048, 5632, 22, 256, 32000
    keys = common('llama', 2048, width, layers, inner, 32, vocabulary)
    keys |= {'llama.rope.dimension_count': 64, 'llama.attention.head_count_kv': 4, 'llama.attention.layer_norm_rms_epsilon': 1e-5}
    tensors = [('token_embd.weight', (vocabulary, width), kind), ('output_norm.weight', (width,), F32), ('output.weight', (vocabulary, width), kind)]
    shapes = {'attn_q': (width, width), 'attn_k': (shared, width), 'attn_v': (shared, width), 'attn_output': (width, width),
              'ffn_gate': (inner, width), 'ffn_up': (inner, width), 'ffn_down': (width, inner)}
    for layer in range(layers):
        tensors += [(f'blk.{layer}.{name}.weight', (width,), F32) for name in ('attn_norm', 'ffn_norm')]
        tensors += [(f'blk.{layer}.{name}.weight', shape, kind) for name, shape in shapes.items()]
    write(path, keys, tensors)


def gpt2(path, kind):
    width, inner, layers, vocabulary = 768, 3072, 12, 50257
    keys = common('gpt2', 1024, width, layers, inner, 12, vocabulary) | {'gpt2.attention.layer_norm_epsilon': 1e-5}
    tensors = [('token_embd.weight', (vocabulary, width), kind), ('position_embd.weight', (1024, width), F32), ('output_norm.weight', (width,), F32),
               ('output_norm.bias', (width,), F32), ('output.weight', (vocabulary, width), kind)]
    shapes = {'attn_qkv': (3 * width, width), 'attn_output': (width, width), 'ffn_up': (inner, width), 'ffn_down': (width, inner)}
    for layer in range(layers):
        tensors += [(f'blk.{layer}.{name}.{part}', (width,), F32) for name in ('attn_norm', 'ffn_norm') for part in ('weight', 'bias')]
        for name, shape in shapes.items():
            tensors += [(f'blk.{layer}.{name}.weight', shape, kind), (f'blk.{layer}.{name}.bias', shape[:1], F32)]
    write(path, keys, tensors)


folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for bits, kind in (('8', Q8_0), ('4', Q4_0), ('ternary', IQ2_BN)):
    llama(folder / f'llama-1.1b-{bits}.gguf', kind)
for bits, kind in (('16', F16), ('8', Q8_0), ('4', Q4_0)):
    gpt2(folder / f'gpt2-124m-{bits}.gguf', kind)
