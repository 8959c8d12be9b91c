#!/usr/bin/env bash
# What the first minutes on an NVIDIA card are for: every check, the figures of docs/cuda.md with PyTorch beside them where it is, then
# the sanitizers. One step after the other, each with its own limit of seconds; what was printed is kept, also of a step that was cut.
#   bench/on_a_card.sh BENCH OUT [STEP...]   BENCH: the published Nibble.Bench; OUT: a folder; STEP: names below (all)
#   CUDA_HOME: where compute-sanitizer is (bin), if not on the path or in /usr/local/cuda
set -uo pipefail
[ $# -ge 2 ] || { sed -n '2,6p' "$0"; exit 2; }
bench="$1" out="$2"
shift 2
wanted=" $* " failures=0
peers="$(dirname -- "${BASH_SOURCE[0]}")/peers"
mkdir -p "$out/log"

step() { # name, seconds, command...
  local name="$1" limit="$2" began=$SECONDS
  shift 2
  [ "$wanted" = "  " ] || case "$wanted" in *" $name "*) ;; *) return ;; esac
  timeout --signal=INT --kill-after=5 "$limit" "$@" >"$out/log/$name.txt" 2>&1
  local code=$?
  [ $code = 0 ] || failures=$((failures + 1))
  echo "$name: exit $code, $((SECONDS - began)) s of at most $limit" | tee -a "$out/summary.txt"
}

sanitized() { # name, seconds, tool, checks
  local tool="$3" checks="$4" small=""
  [ "$tool" = racecheck ] && small="--small"
  # shellcheck disable=SC2086
  PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin:/usr/local/cuda/bin" step "$1" "$2" compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 "$bench" cuda-verify $small --kernels "$checks"
}

nvidia-smi --query-gpu=name,driver_version,clocks.sm,memory.total --format=csv,noheader >"$out/card.txt" 2>&1
step verify 150 "$bench" cuda-verify
step finetune 170 "$bench" cuda-finetune
step gemv 90 "$bench" cuda-gemv --rounds 5
step torch-products 60 python3 "$peers/torch_infer.py" products
step int8 40 "$bench" cuda-int8
step qlora 60 "$bench" cuda-train --kernels "qlora 32x512" --rounds 3
step gpt2 60 "$bench" cuda-train --kernels gpt2 --rounds 11
step torch-gpt2 120 python3 "$peers/torch_train.py" gpt2 --compile
step decode 150 "$bench" cuda-decode
step batch 180 "$bench" cuda-batch
step serve 60 "$bench" cuda-serve --rounds 3
sanitized race-training 60 racecheck "bf16 norms"
sanitized memory-training 60 memcheck "bf16 n"
sanitized memory-packed 90 memcheck "bf16 products with packed"
sanitized race-packed 90 racecheck "bf16 products with packed"
sanitized memory-int8 60 memcheck "llm.int8"
sanitized race-int8 180 racecheck "llm.int8"
sanitized race-packing 120 racecheck packing
sanitized race-activations 120 racecheck "int8 activations"
sanitized race-quantize 120 racecheck quantize
tar -C "$out" -czf "$out/logs.tar.gz" log && echo "$failures steps failed or were cut; logs in $out/logs.tar.gz" | tee -a "$out/summary.txt"
[ $failures = 0 ]
