#!/bin/sh
# Builds the program, quantizes examples/tiny_llama, a trained Llama of 7 million parameters, and reports its size and accuracy.
#   sh scripts/quickstart.sh [MODEL_DIR [SAVE_DIR]]
set -eu
cd "$(dirname "$0")/.."
sh scripts/install_deps.sh
cmake --preset release -DQLIB_BUILD_TESTS=OFF -DQLIB_BUILD_EXAMPLES=OFF -DQLIB_BUILD_BENCH=OFF >/dev/null
cmake --build --preset release --target qlib_program
model=${1:-examples/tiny_llama}
save=${2:-out/$(basename "$model")-w8a8}
report=$save-report
qlib=build/release/bin/qlib
set -x
"$qlib" quant --model_path "$model" --save_path "$save" --quant_type w8a8 --overwrite --report "$report"
"$qlib" inspect "$save"
set --
if [ -f "$model/eval_ids.safetensors" ]; then
  "$qlib" eval --model_path "$save" --reference "$model" --ids "$model/eval_ids.safetensors" --samples 16 --quiet --json >"$report/eval.json"
  set -- --eval "$report/eval.json"
fi
"$qlib" report "$report" "$@"
