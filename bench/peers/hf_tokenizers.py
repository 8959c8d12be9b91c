"""huggingface/tokenizers beside the bench `tokenizer`: the same vocabularies and texts, one thread, and whether the ids are the same.

    bench tokenizer --rounds 5 --output WORK          # writes each text and its ids there
    python3 bench/peers/hf_tokenizers.py WORK [--shared FOLDER] [--rounds 5] [--only VOCABULARY]

Megabytes of UTF-8 a second of processor time, the median of the rounds: at first sight (a tokenizer just made) and warm (the same text again), each
for the whole text in one piece and for its lines as one batch; the faster way of the two is printed, and which it was. Where the library has
encode_batch_fast, which leaves offsets out, that is called. Ids are compared for the whole text.
"""
import argparse
import os
import pathlib
import statistics
import struct
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def gpt2(folder):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def llama3(file):
    """By transformers' own converter of tiktoken files; whole words first, as LLaMA-3's tokenizer.json says."""
    from transformers.convert_slow_tokenizer import TikTokenConverter
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer = TikTokenConverter(vocab_file=str(file), pattern=pattern).converted()
    tokenizer.model.ignore_merges = True
    return tokenizer


def vocabularies(shared):
    yield "embedded 8,192", lambda: tokenizers.Tokenizer.from_file(str(ROOT / "assets/nibble-gpt2-10m/tokenizer.json"))
    yield "GPT-2", lambda: gpt2(shared / "gpt2")
    yield "LLaMA-2", lambda: tokenizers.Tokenizer.from_file(str(shared / "llama2/tokenizer.json"))
    yield "LLaMA-3", lambda: llama3(shared / "llama3/tokenizer.model")


def encode(tokenizer, pieces):
    call = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    start = time.process_time()
    call(pieces, add_special_tokens=False)
    return time.process_time() - start


def fastest(megabytes, times):
    """The way with the shortest median, in MB/s."""
    way = min(times, key=lambda name: statistics.median(times[name]))
    return f"{megabytes / statistics.median(times[way]):7.2f} MB/s ({way})"


def measure(name, made, text, ids, rounds):
    megabytes = len(text.encode()) / 1e6
    ways = {"whole": [text], "lines": text.splitlines(keepends=True)}
    first = {way: [encode(tokenizers.Tokenizer.from_str(made), pieces) for _ in range(rounds)] for way, pieces in ways.items()}
    tokenizer = tokenizers.Tokenizer.from_str(made)
    for pieces in ways.values():
        encode(tokenizer, pieces)
    warm = {way: [encode(tokenizer, pieces) for _ in range(rounds)] for way, pieces in ways.items()}
    found = tokenizer.encode(text, add_special_tokens=False).ids
    at = next((i for i, pair in enumerate(zip(found, ids)) if pair[0] != pair[1]), min(len(found), len(ids)))
    same = "the same ids" if found == ids else f"ids DIFFER at token {at}: {found[at:at + 4]} instead of {ids[at:at + 4]}"
    print(f"{name:32} first sight {fastest(megabytes, first)}   warm {fastest(megabytes, warm)}   {len(ids)} tokens, {same}", flush=True)
    return found == ids


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--shared", type=pathlib.Path, default=ROOT / "shared/data/tokenizers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="one of the vocabularies")
    options = parser.parse_args()
    print(f"tokenizers {tokenizers.__version__}, one thread, processor time")
    same = True
    for vocabulary, make in vocabularies(options.shared):
        made = None
        if options.only not in (None, vocabulary):
            continue
        for file in sorted(options.work.glob(f"{vocabulary}, *.txt")):
            made = made or make().to_str()
            packed = file.with_suffix(".ids").read_bytes()
            ids = list(struct.unpack(f"<{len(packed) // 4}i", packed))
            with open(file, encoding="utf-8", newline="") as stream:
                same &= measure(file.stem, made, stream.read(), ids, options.rounds)
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
