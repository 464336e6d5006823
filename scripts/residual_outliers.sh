#!/bin/sh
# A table of docs/accuracy.md: KL(float‖quantized) of models whose residual stream has one huge channel, without and behind a rotation.
#   sh scripts/residual_outliers.sh [BUILD_DIR] [FACTORS]      default: build/release, with its benchmarks
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
qlib=$build/bin/qlib model=examples/tiny_llama
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
int4="num_bits: 4, type: int, symmetric: true"
for rotation in "" "    SpinQuantModifier: {rotations: [R1, R2], transform_type: hadamard}"; do
  cat > "$work/w4a4${rotation:+_rotated}.yaml" <<YAML
stage:
  modifiers:
$rotation
    QuantizationModifier:
      ignore: [lm_head]
      config_groups:
        all: {targets: [Linear], weights: {$int4, strategy: channel}, input_activations: {$int4, strategy: token, dynamic: true}}
YAML
done

# quantized MODEL ARGUMENTS...: KL
quantized() {
  from=$1
  shift
  rm -rf "$work/q"
  "$qlib" quant --model_path "$from" --save_path "$work/q" --calib_ids $model/calib_ids.safetensors --quiet "$@" >&2
  json "$work/q" "$from" kl
}
json() {
  "$qlib" eval --model_path "$1" --reference "$2" --ids $model/eval_ids.safetensors --samples 32 --quiet --json 2>/dev/null |
    sed -n "s/.*\"$3\": *\([^,]*\),*/\1/p" | head -1
}
pair() { awk "BEGIN { printf \" %.5f | %.5f | %.3f |\", $1, $2, $2 / $1 }"; }

echo "| factor | perplexity | W8A8 | rotated | ratio | W8A8_DYNAMIC | rotated | ratio | W4A4 | rotated | ratio |"
echo "|---|---|---|---|---|---|---|---|---|---|---|"
for factor in ${2:-10 30 100 300 500 1000}; do
  "$build/bin/outlier_model" $model "$work/model" $factor
  printf '| %s | %.1f |' $factor "$(json "$work/model" $model ppl)"
  for type in w8a8 w8a8_dynamic; do
    pair "$(quantized "$work/model" --quant_type $type)" "$(quantized "$work/model" --quant_type $type --anti_method quarot)"
  done
  pair "$(quantized "$work/model" --config_path "$work/w4a4.yaml")" "$(quantized "$work/model" --config_path "$work/w4a4_rotated.yaml")"
  printf '\n'
  rm -rf "$work/model"
done
