#!/usr/bin/env python3
"""GGUF files between Nibble and llama.cpp: each opens what the other writes, and the predictions are compared.

    tools/llama_cpp_check.py NIBBLE MODEL WORK --source CHECKOUT --libraries FOLDER [--only TYPE …]

CHECKOUT is llama.cpp's source (2025 or later), for its headers; FOLDER has its libraries as shared ones. The script compiles tools/llama_cpp_peer.c against both. 'ours': Nibble's file of the type opened in
llama.cpp; 'theirs': what llama.cpp's quantizer makes of Nibble's F32 file opened in Nibble, of one type alone ('pure') and as its own mixture of types. Both programs read the same file and
tokenize the same text; over all tokens but the first of each window: mean loss in both, the largest difference of any token's loss, and the mean KL divergence between the two predictions
(Nibble's logits are stored in F16, which alone gives some 1e-8). Exit code 1 if a row is above its limit: 1e-3 for F32, else 0.01 nats of mean KL.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np

# Type: llama.cpp's number of the mixture that is named like it.
TYPES = {
    "f32": None, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k": 12, "q4_k": 15, "q5_k": 17, "q6_k": 18, "iq4_nl": 25,
    "tq1_0": 36, "tq2_0": 37,
}


def run(*arguments):
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}: {done.stderr[-1500:]}")
    return done.stdout


def build(source, libraries, work):
    peer = work / "peer"
    here = pathlib.Path(__file__).parent
    run("cc", "-O2", "-o", peer, here / "llama_cpp_peer.c", f"-I{source}/include", f"-I{source}/ggml/include", f"-L{libraries}", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{libraries}")
    return peer


def logsoftmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


class Check:
    def __init__(self, arguments, vocabulary):
        self.arguments, self.vocabulary = arguments, vocabulary
        self.work = pathlib.Path(arguments.work)
        self.peer = build(arguments.source, arguments.libraries, self.work)

    def theirs(self, file):
        out = self.work / "logits.bin"
        window, windows = self.arguments.window, self.arguments.windows
        run(self.peer, "logits", file, self.arguments.text, window, windows, self.arguments.threads, out)
        tokens = np.fromfile(out, np.int32, window * windows).reshape(windows, window)
        logits = np.fromfile(out, np.float32, offset=tokens.nbytes).reshape(windows, window, self.vocabulary)
        out.unlink()
        return tokens[:, 1:].reshape(-1), logsoftmax(logits[:, :-1].astype(np.float64)).reshape(-1, self.vocabulary)

    def ours(self, file):
        folder = self.work / "baseline"
        shutil.rmtree(folder, ignore_errors=True)
        window, windows = self.arguments.window, self.arguments.windows
        run(self.arguments.nibble, "eval", file, "--data", self.arguments.text, "--protocol", "blocks", "--window", window, "--limit", window * windows, "--tasks", "perplexity", "--activations", "f32",
            "--save-baseline", folder, "--json")
        logits = np.fromfile(folder / "logits.f16", np.float16).reshape(-1, self.vocabulary)
        return np.fromfile(folder / "losses.f32", np.float32), logsoftmax(logits.astype(np.float64))

    def row(self, name, file):
        tokens, theirs = self.theirs(file)
        losses, ours = self.ours(file)
        if len(losses) != len(tokens) or len(ours) != len(tokens):
            sys.exit(f"{name}: Nibble scored {len(losses)} tokens and kept logits of {len(ours)}, llama.cpp {len(tokens)}")
        expected = -theirs[np.arange(len(tokens)), tokens]
        kl = float((np.exp(theirs) * (theirs - ours)).sum(-1).mean())
        largest = float(np.abs(losses - expected).max())
        fine = largest <= 1e-3 if name == "f32" else kl <= 0.01
        print(f"| {name} | {losses.mean():.5f} | {expected.mean():.5f} | {largest:.1e} | {kl:.1e} |{'' if fine else ' FAIL'}", flush=True)
        return fine

    def types(self, only):
        base, fine = self.work / "f32.gguf", True
        for name, number in TYPES.items():
            if only and name not in only and name != "f32":
                continue
            mine = self.work / f"{name}.gguf"
            run(self.arguments.nibble, "convert", self.arguments.model, mine, "--type", name, "--force")
            fine &= self.row(name, mine)
            for kind in ("pure", "mixed") if number is not None else ():
                their = self.work / f"{name}-{kind}.gguf"
                run(self.peer, "quantize", base, their, number, kind)
                fine &= self.row(f"{name}, theirs, {kind}", their)
                their.unlink()
        return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("nibble", "model", "work"):
        parser.add_argument(name)
    parser.add_argument("--source", required=True, help="checkout of llama.cpp")
    parser.add_argument("--libraries", required=True, help="folder of libllama and libggml")
    parser.add_argument("--text", default=pathlib.Path(__file__).parent.parent / "assets/text/test.txt")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+")
    arguments = parser.parse_args()
    arguments.libraries = pathlib.Path(arguments.libraries).resolve()
    pathlib.Path(arguments.work).mkdir(parents=True, exist_ok=True)
    vocabulary = json.loads(pathlib.Path(arguments.model, "config.json").read_text())["vocab_size"]
    print("| type | Nibble's loss | llama.cpp's | largest difference of a token's loss | KL |\n|---|---|---|---|---|", flush=True)
    if not Check(arguments, vocabulary).types(arguments.only):
        sys.exit(1)


if __name__ == "__main__":
    main()
