#!/bin/sh
# Whole processes on one checkpoint, in turn: int8 weights with dynamic int8 activations, to compressed-tensors. Prints seconds, peak memory and the
# ratio of each round.
#
#   scripts/against_llm_compressor.sh MODEL PYTHON [ROUNDS]
#
# MODEL: a folder with a bf16 checkpoint, such as the one `conversion_bench DIR` leaves in DIR. PYTHON: an interpreter with llmcompressor. QLIB: the
# program (default build/release/bin/qlib). The outputs go beside MODEL and are removed. LLM-Compressor returns when its output is in the page cache,
# qlib when it is on the disk; the last column is a plain write of as many bytes with a sync, which is the part that belongs to the disk.
set -eu
model=${1:?a model folder} python=${2:?a python with llmcompressor} rounds=${3:-3}
qlib=${QLIB:-$(dirname "$0")/../build/release/bin/qlib}
work=$(mktemp -d "$(dirname "$model")/against.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
cat > "$work/peer.py" <<'PY'
import sys
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], torch_dtype="auto")
oneshot(model=model, recipe=QuantizationModifier(targets="Linear", scheme="W8A8", ignore=["lm_head"]))
model.save_pretrained(sys.argv[2], save_compressed=True)
PY
# Seconds and KB of a command, its last line of errors if it fails.
timed() { /usr/bin/time -f '%e %M' -o "$work/time" "$@" > "$work/log" 2>&1 || { tail -1 "$work/log" >&2; exit 1; }; }
find "$model" -name '*.safetensors' -exec cat {} + > /dev/null # into the page cache
unset OPENBLAS_CORETYPE || true
echo "round   qlib s   MB    LLM-Compressor s   MB    times as fast   synced write s"
i=1
while [ "$i" -le "$rounds" ]; do
  timed "$qlib" quant --model_path "$model" --save_path "$work/ours" --quant_type w8a8_dynamic --format compressed_tensors
  ours=$(cat "$work/time")
  bytes=$(cat "$work"/ours/*.safetensors | wc -c)
  rm -rf "$work/ours"
  timed "$python" "$work/peer.py" "$model" "$work/theirs"
  theirs=$(cat "$work/time")
  rm -rf "$work/theirs"
  sync
  timed dd if=/dev/zero of="$work/bare" bs=2M count=$((bytes / 2097152)) conv=fdatasync
  bare=$(cut -d' ' -f1 "$work/time")
  rm -f "$work/bare"
  echo "$i $ours $theirs $bare" | awk '{ printf "%5d %8.2f %5.0f %15.2f %7.0f %15.1f %15.2f\n", $1, $2, $3 / 1e3, $4, $5 / 1e3, $4 / $2, $6 }'
  i=$((i + 1))
done
