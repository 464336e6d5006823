#!/bin/sh
# Builds the program and quantizes examples/tiny_llama, a trained Llama of 7 million parameters.
#   sh scripts/quickstart.sh [MODEL_DIR [SAVE_DIR]]
set -eu
cd "$(dirname "$0")/.."
sh scripts/install_deps.sh
cmake --preset release -DQLIB_BUILD_TESTS=OFF -DQLIB_BUILD_EXAMPLES=OFF -DQLIB_BUILD_BENCH=OFF >/dev/null
cmake --build --preset release --target qlib_program
model=${1:-examples/tiny_llama}
save=${2:-out/$(basename "$model")-w8a8_dynamic}
set -x
build/release/bin/qlib quant --model_path "$model" --save_path "$save" --quant_type w8a8_dynamic --overwrite --report "$save.report.json"
build/release/bin/qlib inspect "$save"
