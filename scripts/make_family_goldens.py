#!/usr/bin/env python3
"""Tiny random checkpoints of model families with the results of transformers, as tests/golden/families has them.

  make_family_goldens.py OUT [name ...]    writes OUT/<name>/{config.json, model.safetensors, golden.safetensors}
  make_family_goldens.py --saved OUT ...   the same with the config.json that transformers writes instead of the short one

Needs torch and transformers (5.17.0 made the goldens that are committed). Weights are random, in the names and layouts that save_pretrained
writes; eager attention, f32, CPU. golden.safetensors: ids [samples, tokens], logits, hidden.{i} = input of layer i, hidden.{layers} = output
of the last layer before the final norm."""
import json
import os
import re
import shutil
import sys
import tempfile
import warnings

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
warnings.filterwarnings("ignore")
import torch
import transformers
from safetensors.torch import load_file, save_file
import transformers.utils.logging
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

BASE = dict(hidden_size=32, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=48,
            max_position_embeddings=64, dtype="bfloat16", bos_token_id=1, eos_token_id=2, pad_token_id=0)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 32.0, "beta_slow": 1.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
GRANITE = dict(embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.21, logits_scaling=2.5, rms_norm_eps=1e-5,
               rope_theta=5000.0)
EXPERTS = dict(num_experts_per_tok=2, intermediate_size=16, moe_intermediate_size=8)
SHARED = dict(n_shared_experts=1, n_routed_experts=4, routed_scaling_factor=1.7, n_group=2, topk_group=1, norm_topk_prob=True)
MLA = dict(q_lora_rank=12, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6)

GPT = dict(n_embd=32, n_layer=2, n_head=4, n_positions=64, n_inner=16,
           **{k: "-" for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                               "max_position_embeddings")})

# name: config over BASE; a value of None is written as null, "-" leaves the key out; "_class" is for models with other towers.
FAMILIES = {
    "afmoe": dict(model_type="afmoe", head_dim=8, num_experts=4, num_shared_experts=1, **EXPERTS, num_dense_layers=1, route_scale=1.4,
                  sliding_window=5, global_attn_every_n_layers=2, mup_enabled=True),
    "apertus": dict(model_type="apertus", rope_theta=20000.0, rope_scaling=LLAMA3, rms_norm_eps=1e-4, head_dim=8),
    "arcee": dict(model_type="arcee", attention_bias=True, mlp_bias=True, rms_norm_eps=1e-4, rope_theta=3000.0, rope_scaling=YARN),
    "cohere": dict(model_type="cohere", use_qk_norm=True, logit_scale=0.3, layer_norm_eps=1e-3, rope_theta=2000.0, attention_bias=True),
    "cohere2": dict(model_type="cohere2", logit_scale=0.4, sliding_window=6, sliding_window_pattern=2, rope_theta=2000.0),
    "cwm": dict(model_type="cwm", head_dim=8, sliding_window=5, num_hidden_layers=3,
                layer_types=["full_attention", "sliding_attention", "sliding_attention"], rope_theta=30000.0, rope_scaling=LLAMA3),
    "dots1": dict(model_type="dots1", **EXPERTS, **SHARED, first_k_dense_replace=1, sliding_window=7, max_window_layers=1, attention_bias=True),
    "ernie4_5": dict(model_type="ernie4_5", head_dim=8, use_bias=True, rms_norm_eps=1e-4, rope_theta=4000.0),
    "ernie4_5_moe": dict(model_type="ernie4_5_moe", moe_k=2, moe_num_experts=4, moe_num_shared_experts=1, moe_layer_start_index=1,
                         moe_intermediate_size=8, tie_word_embeddings=False, rope_theta=4000.0),
    "exaone4": dict(model_type="exaone4", head_dim=8, sliding_window=5, sliding_window_pattern=2, rope_theta=3000.0),
    "exaone_moe": dict(model_type="exaone_moe", head_dim=8, sliding_window=5, sliding_window_pattern=2, num_experts=4, num_shared_experts=1,
                       **EXPERTS, routed_scaling_factor=1.3, first_k_dense_replace=1, n_group=1, topk_group=1),
    "falcon": dict(model_type="falcon", new_decoder_architecture=True, num_kv_heads=2, bias=True, layer_norm_epsilon=1e-4, rope_theta=3000.0,
                   num_key_value_heads="-", intermediate_size="-", ffn_hidden_size=16),
    "falcon_7b": dict(model_type="falcon", multi_query=True, parallel_attn=True, bias=False, num_key_value_heads="-", intermediate_size="-",
                      ffn_hidden_size=16, tie_word_embeddings=False),
    "falcon_rw": dict(model_type="falcon", multi_query=False, parallel_attn=False, bias=True, num_key_value_heads="-", intermediate_size="-",
                      ffn_hidden_size=16),
    "flex_olmo": dict(model_type="flex_olmo", num_experts=4, num_experts_per_tok=2, intermediate_size=8, rope_theta=4000.0),
    "gemma": dict(model_type="gemma", head_dim=12, num_key_value_heads=1, rms_norm_eps=1e-4),
    "glm4v": dict(model_type="glm4v", _class="image", num_key_value_heads=2, partial_rotary_factor=0.5, rms_norm_eps=1e-4,
                  rope_theta=2000.0, mrope_section=[1, 1, 0]),
    "glm4v_moe": dict(model_type="glm4v_moe", _class="image", **EXPERTS, **SHARED, head_dim=8, first_k_dense_replace=1, attention_bias=True,
                      rope_theta=2000.0, partial_rotary_factor=0.5, mrope_section=[1, 1, 0]),
    "gpt_neox": dict(model_type="gpt_neox", rotary_pct=0.5, rotary_emb_base=3000, layer_norm_eps=1e-4, num_key_value_heads="-"),
    "gpt_neox_serial": dict(model_type="gpt_neox", rotary_pct=1.0, use_parallel_residual=False, attention_bias=False, num_key_value_heads="-"),
    "gpt_bigcode": dict(model_type="gpt_bigcode", **GPT, layer_norm_epsilon=1e-4),
    "gptj": dict(model_type="gptj", **GPT, rotary_dim=4),
    "granite": dict(model_type="granite", attention_bias=True, mlp_bias=True, **GRANITE),
    "granite_swa": dict(model_type="granite_swa", **GRANITE, sliding_window=5),
    "granitemoe": dict(model_type="granitemoe", **GRANITE, num_local_experts=4, num_experts_per_tok=2, intermediate_size=8),
    "granitemoeshared": dict(model_type="granitemoeshared", **GRANITE, num_local_experts=4, num_experts_per_tok=2, intermediate_size=8,
                             shared_intermediate_size=12),
    "granitemoehybrid": dict(model_type="granitemoehybrid", **GRANITE, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=16,
                             layer_types=["attention", "attention"], position_embedding_type="rope", mamba_n_heads=8, mamba_d_head=8,
                             mamba_expand=2),
    "helium": dict(model_type="helium", head_dim=8, rms_norm_eps=1e-4, rope_theta=3000.0, mlp_bias=True),
    "hy_v3": dict(model_type="hy_v3", head_dim=8, num_experts=4, num_shared_experts=1, **EXPERTS, rope_theta=3000.0, router_scaling_factor=1.6),
    "hyperclovax": dict(model_type="hyperclovax", **{k: v for k, v in GRANITE.items() if k != "attention_multiplier"}),
    "internvl": dict(model_type="internvl", _class="image", text_type="qwen2"),
    "jais2": dict(model_type="jais2", layer_norm_eps=1e-4),
    "llava": dict(model_type="llava", _class="image", text_type="llama", rope_theta=3000.0, tie_word_embeddings=False),
    "mellum": dict(model_type="mellum", head_dim=8, num_experts=4, **EXPERTS, sliding_window=5, norm_topk_prob=False,
                   layer_types=["full_attention", "sliding_attention"],
                   rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 5000.0},
                                    "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}}),
    "minicpm3": dict(model_type="minicpm3", **MLA, scale_emb=3, scale_depth=1.1, dim_model_base=16, rope_theta=2000.0,
                     num_key_value_heads=4, attention_bias=True),
    "ministral": dict(model_type="ministral", sliding_window=6, head_dim=12, layer_types=["full_attention", "sliding_attention"]),
    "ministral3": dict(model_type="ministral3", head_dim=12,
                       rope_parameters={**YARN, "rope_theta": 5000.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.3,
                                        "original_max_position_embeddings": 8}),
    "mistral3": dict(model_type="mistral3", _class="image", text_type="mistral", sliding_window=None),
    "mistral4": dict(model_type="mistral4", **MLA, **EXPERTS, **SHARED, num_key_value_heads=4, first_k_dense_replace=1,
                     rope_parameters={**YARN, "rope_theta": 5000.0, "mscale": 1.0, "mscale_all_dim": 0.8, "llama_4_scaling_beta": 0.3,
                                      "original_max_position_embeddings": 8}),
    "nemotron": dict(model_type="nemotron", head_dim=8, norm_eps=1e-4, attention_bias=True, mlp_bias=True),
    "olmo": dict(model_type="olmo", clip_qkv=0.8, rope_theta=3000.0),
    "olmo2": dict(model_type="olmo2", attention_bias=True, rms_norm_eps=1e-4, rope_theta=3000.0),
    "olmo3": dict(model_type="olmo3", sliding_window=5, num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"],
                  rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 900.0},
                                   "full_attention": {**YARN, "rope_theta": 3000.0}}),
    "olmoe": dict(model_type="olmoe", num_experts=4, num_experts_per_tok=2, intermediate_size=8, clip_qkv=0.9, norm_topk_prob=True),
    "opt": dict(model_type="opt", word_embed_proj_dim=32, ffn_dim=16, num_key_value_heads="-", intermediate_size="-"),
    "persimmon": dict(model_type="persimmon", layer_norm_eps=1e-4, num_key_value_heads="-"),
    "phi": dict(model_type="phi", qk_layernorm=True, layer_norm_eps=1e-4, rope_theta=3000.0),
    "phimoe": dict(model_type="phimoe", num_local_experts=4, num_experts_per_tok=2, intermediate_size=8, router_jitter_noise=0.2,
                   attention_bias=True, lm_head_bias=True, original_max_position_embeddings=16,
                   rope_scaling={"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.5, 2.0, 3.0, 4.0],
                                 "short_mscale": 1.1, "long_mscale": 1.3, "original_max_position_embeddings": 16}),
    "seed_oss": dict(model_type="seed_oss", head_dim=12, attention_bias=True, attention_out_bias=True, mlp_bias=True),
    "smollm3": dict(model_type="smollm3", no_rope_layers=[1, 0], use_sliding_window=True, sliding_window=6, rope_theta=3000.0),
    "solar_open": dict(model_type="solar_open", head_dim=8, **EXPERTS, **SHARED, attention_bias=True),
    "stablelm": dict(model_type="stablelm", use_qkv_bias=True, layer_norm_eps=1e-4, partial_rotary_factor=0.5),
    "stablelm_parallel": dict(model_type="stablelm", use_parallel_residual=True, tie_word_embeddings=True),
    "starcoder2": dict(model_type="starcoder2", norm_epsilon=1e-4, sliding_window=6, rope_theta=3000.0),
    "vaultgemma": dict(model_type="vaultgemma", head_dim=12, query_pre_attn_scalar=20, sliding_window=5, attn_logit_softcapping=4.0,
                       final_logit_softcapping=6.0),
    "youtu": dict(model_type="youtu", **MLA, num_key_value_heads=4, rope_theta=3000.0, attention_bias=True, pad_token_id=None),
}
SAMPLES, TOKENS = 2, 10


def config_of(name):
    given = dict(FAMILIES[name])
    kind = given.pop("_class", "text")
    config = {k: v for k, v in {**BASE, **given}.items() if v != "-"}
    if kind == "text":
        return config
    # A vision tower as small as the text part: what matters is that it stands beside it.
    outer = {"model_type": config.pop("model_type"), "tie_word_embeddings": config.get("tie_word_embeddings", False)}
    text_type = config.pop("text_type", outer["model_type"] + "_text")
    section = config.pop("mrope_section", None)
    if section is not None:
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": config.pop("rope_theta"), "mrope_section": section,
                                     "partial_rotary_factor": config.pop("partial_rotary_factor")}
    outer["text_config"] = {"model_type": text_type, **config}
    outer["vision_config"] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "depth": 1, "num_heads": 2, "num_attention_heads": 2,
                              "out_hidden_size": 32, "image_size": 8, "patch_size": 4, "vocab_size": 8}
    if outer["model_type"] == "llava":
        outer["vision_config"]["model_type"] = "clip_vision_model"
        outer["vision_feature_layer"] = -1
    return outer


def fill(model, seed):
    """Random values: matrices that keep the size of what they read, gains around their neutral value, biases and gates that matter."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for name, p in list(model.named_parameters()) + list(model.named_buffers()):
        if name not in model.state_dict() or not p.is_floating_point() or re.search(r"(inv_freq|act_fn\.(beta|eps)|vision|visual)", name):
            continue
        noise = torch.randn(p.shape, generator=random)
        if re.search(r"e_score_correction_bias|expert_bias", name):
            value = 0.3 * noise
        elif re.search(r"(norm\d?|ln_\w+|layernorm)\.(weight)$|norm\.weight", name) and not re.search("embed", name):
            value = 0.3 * noise + (p.detach().float().mean().round() if p.numel() else 0)
        elif name.endswith("bias"):
            value = 0.3 * noise
        elif p.dim() == 1:
            value = p.detach() + 0.3 * noise
        elif "embed" in name or "wte" in name:
            value = noise
        else:
            value = noise * 1.5 / p.shape[-1]**0.5
        p.data.copy_(value.bfloat16())
    return model


def make(out, name, saved):
    config = config_of(name)
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(folder + "/config.json", "w") as f:
        json.dump(config, f, indent=1)
    kind = AutoModelForImageTextToText if "text_config" in config else AutoModelForCausalLM
    real = AutoConfig.from_pretrained(folder)
    if name == "mistral4":  # known to no Auto class
        kind = transformers.Mistral4ForCausalLM
    make_model = getattr(kind, "from_config", None) or kind._from_config
    model = fill(make_model(real, attn_implementation="eager").float(), 1 + sorted(FAMILIES).index(name))
    with tempfile.TemporaryDirectory() as there:
        model.save_pretrained(there)
        weights = load_file(there + "/model.safetensors")
        if saved:
            shutil.copy(there + "/config.json", folder)
    exact = ("correction_bias", "expert_bias", "act_fn.beta", "act_fn.eps")
    weights = {k: v if not v.is_floating_point() or k.endswith(exact) else v.bfloat16() for k, v in weights.items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, folder + "/model.safetensors", {"format": "pt"})
    model, info = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    model = model.eval().float()
    wrong = {k: sorted(map(str, v))[:4] for k, v in info.items() if v}
    assert not wrong, wrong
    text = real.get_text_config()
    layers = next(m for n, m in model.named_modules()
                  if isinstance(m, torch.nn.ModuleList) and len(m) == text.num_hidden_layers and "vis" not in n and n.split(".")[-1] in ("layers", "h"))
    hidden = []
    for layer in layers:
        layer.register_forward_pre_hook(lambda m, a, k: hidden.append((a[0] if a else k["hidden_states"]).detach().clone()), with_kwargs=True)
    layers[-1].register_forward_hook(lambda m, a, y: hidden.append((y[0] if isinstance(y, tuple) else y).detach().clone()))
    ids = torch.randint(0, text.vocab_size, (SAMPLES, TOKENS), generator=torch.Generator().manual_seed(len(name)))
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
    golden = {"ids": ids.int(), "logits": logits.float(), **{f"hidden.{i}": h.float() for i, h in enumerate(hidden)}}
    source = f"transformers {transformers.__version__} {type(model).__name__}, torch {torch.__version__.split('+')[0]}, eager, float32"
    save_file({k: v.contiguous() for k, v in golden.items()}, folder + "/golden.safetensors", {"source": source})
    size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
    print(f"{name:20s} {type(model).__name__:36s} logits to {logits.abs().max():.2f} {size} bytes", flush=True)


def main():
    args = sys.argv[1:]
    saved = "--saved" in args
    out, *names = [a for a in args if a != "--saved"]
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    failed = []
    for name in names or sorted(FAMILIES):
        try:
            make(out, name, saved)
        except Exception as e:
            failed.append(name)
            print(f"{name:20s} FAILED {type(e).__name__}: {str(e)[:300]}", flush=True)
            if os.environ.get("TRACE"):
                raise
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
