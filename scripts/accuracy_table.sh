#!/bin/sh
# The table of docs/accuracy.md: KL(float‖quantized) and seconds of each outlier suppression, quant type and model.
#   sh scripts/accuracy_table.sh [BUILD_DIR]      default: build/release, with its benchmarks
# Models: examples/tiny_llama, the same with outliers (bench/outlier_model.cpp), and three families of tests/golden with outliers.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
qlib=$build/bin/qlib
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
families="qwen3_moe deepseek_v3 llama"
"$build/bin/outlier_model" examples/tiny_llama "$work/tiny_llama_outliers"
for f in $families; do "$build/bin/outlier_model" "tests/golden/families/$f" "$work/$f"; done

# kl_of MODEL CALIB EVAL TYPE METHOD: "KL seconds"
kl_of() {
  rm -rf "$work/q"
  start=$(date +%s.%N)
  if ! "$qlib" quant --model_path "$1" --save_path "$work/q" --quant_type "$4" --anti_method "$5" --calib_ids "$2" --quiet 2>"$work/err"; then
    echo "– –"
    return
  fi
  end=$(date +%s.%N)
  kl=$("$qlib" eval --model_path "$work/q" --reference "$1" --ids "$3" --samples 32 --quiet --json 2>/dev/null | sed -n 's/.*"kl": *\([^,]*\),*/\1/p')
  printf '%.5f %.1f\n' "$kl" "$(echo "$end - $start" | bc)"
}

calib=examples/tiny_llama/calib_ids.safetensors eval=examples/tiny_llama/eval_ids.safetensors
printf '| method | type | tiny_llama | s | tiny_llama, outliers | s |'
for f in $families; do printf ' %s, outliers |' "$f"; done
printf '\n|---|---|---|---|---|---|'
for f in $families; do printf -- '---|'; done
printf '\n'
for type in w8a8 w8a8_dynamic w4a16; do
  for method in none m1 m2 m3 m4 m5 m6 smooth_quant awq flex_awq_ssz outlier_suppression_lite quarot; do
    plain=$(kl_of examples/tiny_llama $calib $eval $type $method)
    outliers=$(kl_of "$work/tiny_llama_outliers" $calib $eval $type $method)
    printf '| %s | %s | %s | %s | %s | %s |' "$method" "$type" "${plain% *}" "${plain#* }" "${outliers% *}" "${outliers#* }"
    for f in $families; do
      ids=tests/golden/families/$f/golden.safetensors
      row=$(kl_of "$work/$f" "$ids" "$ids" $type $method)
      printf ' %s |' "${row% *}"
    done
    printf '\n'
  done
done
