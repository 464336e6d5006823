"""Writes goldens.safetensors: what msModelSlim 26.1.0 and LLM-Compressor 0.14.0.1 made of norms, as scales: the float gain over the stored one.

usage: make_goldens.py REFERENCE    (a folder with msmodelslim/<case>, msmodelslim/_float and llmcompressor/<case>, llmcompressor/models)

Tensors: <case>/<norm> f32 [channels] the peer's scale; <case>/<norm>.bias f32, its new bias, where it shifts; ids.<n> and rows: the ids of all
msModelSlim cases and of each LLM-Compressor case. Of sf_iter_smooth_asym, whose model is not stored here, also what its rule is given: the
smallest and the largest value of each input channel (<norm>.low, .high; transformers, f32) and the largest weight of each column (<norm>.weight)
after the layer's inner sub-graphs were folded.
"""
import glob
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

root = sys.argv[1]
norms = {"input_layernorm": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], "post_attention_layernorm": ["mlp.gate_proj", "mlp.up_proj"]}
cases = {  # case: (float model, layers)
    "msmodelslim/sv0_anti_m1_q2": ("msmodelslim/_float/qwen2_s", 1),
    "msmodelslim/sv0_anti_m2": ("msmodelslim/_float/qwen2_s", 1),
    "msmodelslim/sv0_anti_m4": ("msmodelslim/_float/qwen3_s", 2),
    "msmodelslim/sf_iter_smooth_asym": ("msmodelslim/_float/qwen3_sf", 1),
    "msmodelslim/s_flex_awq_ssz": ("msmodelslim/_float/qwen3_s", 1),
    "msmodelslim/s_w4a8_dynamic_ssz_flex": ("msmodelslim/_float/qwen3_s", 1),
    "llmcompressor/sq_gptq_w8a8_llama128": ("llmcompressor/models/llama128", 1),
    "llmcompressor/awq_w4a16_asym_llama256": ("llmcompressor/models/llama256", 1),
}
out = {}


def weights(folder):
    files = [f for f in glob.glob(os.path.join(root, folder, "*.safetensors")) if "calib" not in f]
    return load_file(files[0])


for case, (source, layers) in cases.items():
    name, quantized, floats = os.path.basename(case), weights(case), weights(source)
    ids = load_file(os.path.join(root, case, "calib_ids.safetensors"))
    samples = list(ids["input_ids"]) if "input_ids" in ids else [ids[f"ids.{i}"][0] for i in range(len(ids))]
    key = "ids" if case.startswith("msmodelslim") else name + "/ids"
    out[key] = torch.cat(samples).to(torch.int32)
    out[key + ".lengths"] = torch.tensor([len(s) for s in samples], dtype=torch.int32)
    for layer in range(layers):
        for norm in norms:
            tensor = f"model.layers.{layer}.{norm}"
            out[f"{name}/{tensor}"] = floats[tensor + ".weight"].float() / quantized[tensor + ".weight"].float()
            if name == "sf_iter_smooth_asym":
                out[f"{name}/{tensor}.bias"] = quantized[tensor + ".bias"].float()

# What iter_smooth with alpha .7 sees in layer 0 of the f32 model.
model = AutoModelForCausalLM.from_pretrained(os.path.join(root, "msmodelslim/_float/qwen3_sf"), dtype=torch.float32).eval()
layer, alpha, seen = model.model.layers[0], 0.7, {}


def watch(name):
    def hook(_, arguments):
        x = arguments[0][0]
        low, high = seen.get(name, (x.amin(0), x.amax(0)))
        seen[name] = (torch.minimum(low, x.amin(0)), torch.maximum(high, x.amax(0)))

    return hook


for name, module in layer.named_modules():
    if isinstance(module, torch.nn.Linear):
        module.register_forward_pre_hook(watch(name))
lengths = out["ids.lengths"].tolist()
with torch.no_grad():
    for sample in torch.split(out["ids"], lengths):
        model(input_ids=sample.long()[None], use_cache=False)
w = {n: m.weight.detach().clone() for n, m in layer.named_modules() if isinstance(m, torch.nn.Linear)}


def scale(linear):
    low, high = seen[linear]
    return (torch.maximum(-low, high) ** alpha / w[linear].abs().amax(0).clamp(min=1e-5) ** (1 - alpha)).clamp(min=1e-5)


heads, kv = model.config.num_attention_heads, model.config.num_key_value_heads
w["mlp.up_proj"] /= scale("mlp.down_proj")[:, None]
w["self_attn.v_proj"] /= scale("self_attn.o_proj").view(kv, heads // kv, -1).mean(1).reshape(-1)[:, None]
for norm, linears in norms.items():
    tensor = "sf_iter_smooth_asym/model.layers.0." + norm
    out[tensor + ".low"], out[tensor + ".high"] = seen[linears[0]]
    out[tensor + ".weight"] = torch.cat([w[n] for n in linears]).abs().amax(0)
save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(os.path.dirname(os.path.abspath(__file__)), "goldens.safetensors"))
