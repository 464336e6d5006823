#include "mini_checkpoint.hpp"

#include <qlib/format/simulated_activations.hpp>
#include <qlib/format/simulated_model.hpp>
#include <qlib/format/simulated_parameters.hpp>
#include <qlib/model/decoder.hpp>

#include <algorithm>
#include <bit>
#include <cmath>

using namespace qlib;
using qlib_test::mini_checkpoint;
using qlib_test::temporary_folder;
using qlib_test::tiny_model;

namespace {

const std::string golden = QLIB_SOURCE_DIR "/tests/golden/simulation/";

/// A folder of the tensors that a test makes.
struct made_folder {
  explicit made_folder(const mini_checkpoint& c) {
    c.write(directory);
    REQUIRE(weight_folder::open(directory.path(), folder).empty());
  }
  const stored_tensor* operator[](std::string_view name) const {
    const stored_tensor* t = folder.find(name);
    REQUIRE(t != nullptr);
    return t;
  }
  temporary_folder directory;
  weight_folder folder;
};

std::vector<float> dequantized(const made_folder& f, const stored_matrix& m) {
  std::vector<float> w(m.rows * m.cols);
  dequantize(f.folder, m, 0, {w.data(), m.rows, m.cols}, 1);
  // A strip by itself is the same rows.
  std::vector<float> last(m.cols);
  dequantize(f.folder, m, m.rows - 1, {last.data(), 1, m.cols}, 2);
  CHECK(std::equal(last.begin(), last.end(), w.end() - static_cast<std::ptrdiff_t>(m.cols)));
  return w;
}

template <class T>
void add_values(mini_checkpoint& c, const std::string& name, dtype type, std::vector<std::uint64_t> shape, const std::vector<T>& values) {
  c.add(name, type, std::move(shape), T{});
  for (std::size_t i = 0; i < values.size(); ++i) c.set(name, i, values[i]);
}

std::vector<float> row_of(const activation_arithmetic& a, std::vector<float> x) {
  std::vector<float> y(x.size());
  a.apply_row(x.data(), y.data(), x.size());
  a.apply_row(x.data(), x.data(), x.size());
  CHECK(x == y);  // in place too
  return y;
}

/// Deterministic values in about [-1, 1).
std::vector<float> values(std::size_t n, std::uint32_t seed) {
  std::vector<float> out(n);
  for (float& v : out) {
    seed = seed * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<std::int32_t>(seed)) * 0x1p-31f;
  }
  return out;
}

std::string all_text(const errors& found) {
  std::string text;
  for (const error& e : found) text += e.text() + "\n";
  return text;
}

/// config.json that tiny_model's shapes fit.
void complete_config(mini_checkpoint& c) {
  const bool experts = c.config()["model_type"] == "qwen3_moe";
  c.config().update({{"hidden_size", 64},
                     {"num_attention_heads", 4},
                     {"num_key_value_heads", 2},
                     {"head_dim", 16},
                     {"vocab_size", 32},
                     {"intermediate_size", 64},
                     {"rms_norm_eps", 1e-6},
                     {"max_position_embeddings", 64},
                     {"hidden_act", "silu"}});
  if (experts) c.config().update({{"num_experts", 2}, {"num_experts_per_tok", 1}, {"moe_intermediate_size", 64}});
}

/// Logits of a folder on ids, with products that are the same on every machine.
std::vector<float> logits_of(const std::string& directory, const std::vector<std::int32_t>& ids, inference_phase phase) {
  simulated_model model;
  const errors found = simulated_model::open(directory, {.phase = phase, .threads = 2}, model);
  REQUIRE_MESSAGE(found.empty(), all_text(found));
  decoder d;
  decoder_options options;
  options.gemm.kind = gemm_kind::reproducible;
  const errors wrong = decoder::create(model.description(), model.parameters(), options, d);
  REQUIRE_MESSAGE(wrong.empty(), all_text(wrong));
  std::vector<float> hidden(ids.size() * d.description().hidden_size), out(ids.size() * d.description().vocabulary);
  const matrix_view<float> h{hidden.data(), ids.size(), d.description().hidden_size};
  const std::size_t starts[] = {0, ids.size()};
  REQUIRE(d.embed(ids, h));
  for (std::size_t l = 0; l < d.layers(); ++l) REQUIRE(d.run_layer(l, h, starts, model.hook()));
  REQUIRE(d.logits(h, {out.data(), ids.size(), d.description().vocabulary}, model.hook()));
  return out;
}

}  // namespace

TEST_CASE("every layout of codes becomes (code - zero point) * scale") {
  mini_checkpoint c;
  c.weights_file = "model.safetensors";
  add_values<std::int8_t>(c, "bytes", dtype::i8, {2, 4}, {1, -2, 3, -4, 127, -128, 0, 5});
  add_values<float>(c, "scale", dtype::f32, {2, 2}, {0.5f, 2, 0.25f, 4});
  add_values<float>(c, "offset", dtype::f32, {2, 2}, {1, 0, 0, -3});
  // Rows 0 and 1 in one byte: 0x8f is 15 -> -1 low, 8 -> -8 high.
  add_values<std::uint8_t>(c, "nibbles", dtype::u8, {1, 4}, {0x8f, 0x21, 0x70, 0x07});
  add_values<std::uint8_t>(c, "e4m3", dtype::f8_e4m3, {2, 4}, {0x38, 0xb8, 0x7e, 0x01, 0x40, 0x00, 0x48, 0xc8});
  add_values<std::uint8_t>(c, "powers", dtype::u8, {2, 1}, {128, 126});
  // pack-quantized words of the signed codes -8 .. -1 and 7 .. 0: field = code + 8.
  add_values<std::int32_t>(c, "words", dtype::i32, {2, 1}, {0x76543210, static_cast<std::int32_t>(0x89abcdefu)});
  add_values<float>(c, "group_scale", dtype::f32, {2, 2}, {1, 10, 100, 1000});
  add_values<std::int32_t>(c, "packed_zeros", dtype::i32, {1, 2}, {0x97, 0x88});  // fields 7, 9 and 8, 8: -1, 1 and 0, 0
  add_values<std::int32_t>(c, "order", dtype::i32, {8}, {0, 1, 0, 1, 0, 1, 0, 1});
  add_values<float>(c, "one", dtype::f32, {1}, {2});
  add_values<float>(c, "second", dtype::f32, {2, 2}, {1, 2, 3, 4});
  const made_folder f{c};

  SUBCASE("bytes with groups and offsets") {
    const stored_matrix m{.rows = 2, .cols = 4, .codes = f["bytes"], .scale = f["scale"], .zero_point = f["offset"], .tile_cols = 2};
    CHECK(dequantized(f, m) == std::vector<float>{0, -1.5f, 6, -8, 31.75f, -32, 12, 32});
  }
  SUBCASE("two rows a byte, with scales of scales") {
    const stored_matrix m{.rows = 2,
                          .cols = 4,
                          .layout = code_layout::nibble_rows,
                          .num_bits = 4,
                          .codes = f["nibbles"],
                          .scale = f["powers"],
                          .tile_cols = 4,
                          .second_scale = f["second"],
                          .second_cols = 2,
                          .powers_of_two = true};
    CHECK(dequantized(f, m) == std::vector<float>{-2, 2, 0, 28, -12, 3, 14, 0});
  }
  SUBCASE("two columns a byte") {
    const stored_matrix m{
        .rows = 1, .cols = 8, .layout = code_layout::nibble_columns, .num_bits = 4, .codes = f["nibbles"], .scale = f["one"], .tile_cols = 8};
    CHECK(dequantized(f, m) == std::vector<float>{-2, -16, 2, 4, 0, 14, 14, 0});
  }
  SUBCASE("e4m3 in blocks that the matrix does not fill") {
    const stored_matrix m{
        .rows = 2, .cols = 4, .layout = code_layout::e4m3, .codes = f["e4m3"], .scale = f["second"], .tile_rows = 3, .tile_cols = 3};
    CHECK(dequantized(f, m) == std::vector<float>{1, -1, 448, 0x1p-8f, 2, 0, 4, -8});
  }
  SUBCASE("e2m1 with a global scale that divides") {
    const stored_matrix m{.rows = 1,
                          .cols = 8,
                          .layout = code_layout::e2m1,
                          .num_bits = 4,
                          .codes = f["nibbles"],
                          .scale = f["one"],
                          .tile_cols = 8,
                          .global_scale = 4};
    CHECK(dequantized(f, m) == std::vector<float>{-3, -0.0f, 0.25f, 0.5f, 0, 3, 3, 0});
  }
  SUBCASE("words with packed zero points and an order of columns") {
    stored_matrix m{.rows = 2,
                    .cols = 8,
                    .layout = code_layout::words,
                    .num_bits = 4,
                    .codes = f["words"],
                    .scale = f["group_scale"],
                    .zero_point = f["packed_zeros"],
                    .packed_zero_points = true,
                    .tile_cols = 4};
    CHECK(dequantized(f, m) == std::vector<float>{-7, -6, -5, -4, -40, -30, -20, -10, 600, 500, 400, 300, 3000, 2000, 1000, 0});
    m.group_index = f["order"];
    CHECK(dequantized(f, m) == std::vector<float>{-7, -70, -5, -50, -3, -30, -1, -10, 600, 6000, 400, 4000, 200, 2000, 0, 0});
  }
}

TEST_CASE("dynamic inputs have one scale a row by the rule of their engine") {
  activation_arithmetic a{.type = activation_type::integer, .dynamic = true};
  CHECK(row_of(a, {127, -63.4f, 0.5f, 1.5f}) == std::vector<float>{127, -63, 0, 2});  // absmax / 127: scale 1, ties to even
  CHECK(row_of(a, {0, 0}) == std::vector<float>{0, 0});
  a.num_bits = 4;
  CHECK(row_of(a, {7, -3.4f, -7}) == std::vector<float>{7, -3, -7});
  a.num_bits = 8;
  a.rule = scale_rule::compressed_tensors;  // absmax / 127.5: the largest becomes 127 of 127.5 steps
  CHECK(row_of(a, {127.5f, -100.2f, 3}) == std::vector<float>{127, -100, 3});
  CHECK(row_of(a, {-127.5f, 3}) == std::vector<float>{-128, 3});
  a.group_size = 2;
  CHECK(row_of(a, {127.5f, 1.2f, 1275, 12}) == std::vector<float>{127, 1, 1270, 10});
  a.group_size = 0;
  a.symmetric = false;  // 255 steps from 0 to 510: step 2, zero point -128
  CHECK(row_of(a, {510, 3.2f, 1}) == std::vector<float>{510, 4, 0});
  const activation_arithmetic fp8{.type = activation_type::e4m3, .dynamic = true};
  CHECK(row_of(fp8, {448, 17, -1}) == std::vector<float>{448, 16, -1});  // 16 and 18 are neighbours, 17 ties to the even 16
  const activation_arithmetic mx8{.type = activation_type::mxfp8, .dynamic = true};
  CHECK(row_of(mx8, {1024, 68}) == std::vector<float>{1024, 64});  // step 4: 68 / 4 = 17
  const activation_arithmetic mx4{.type = activation_type::mxfp4, .dynamic = true};
  CHECK(row_of(mx4, {4, 2.5f, -0.3f, 7}) == std::vector<float>{4, 2, -0.5f, 6});
}

TEST_CASE("static inputs have the stored scale, shifted by the bias of their norm and multiplied by their smoothing") {
  activation_arithmetic a{.type = activation_type::integer, .scale = 0.5f, .zero_point = -3};
  // 0.25 / 0.5 - 3 = -2.5 rounds to the even -2; codes end at 127 and -128.
  CHECK(row_of(a, {1, 0.25f, 1000, -1000}) == std::vector<float>{1, 0.5f, 65, -62.5f});
  a.reciprocal = true;
  CHECK(row_of(a, {1, 0.25f, 1000, -1000}) == std::vector<float>{1, 0.5f, 65, -62.5f});
  a.shift = {1, 1};
  a.factors = {2, 0.25f};
  CHECK(row_of(a, {0.5f, 2.9f}) == std::vector<float>{3, 1});
  const activation_arithmetic shifted{.shift = {1, 1}};
  CHECK_FALSE(shifted.identity());
  CHECK(row_of(shifted, {0.5f, 2}) == std::vector<float>{1.5f, 3});
  CHECK(activation_arithmetic{}.identity());
  const activation_arithmetic fp8{.type = activation_type::e4m3, .scale = 2};
  CHECK(row_of(fp8, {34, 2000, -3}) == std::vector<float>{32, 896, -3});
}

TEST_CASE("rows are quantized by themselves, on any number of threads") {
  const activation_arithmetic a{.type = activation_type::integer, .dynamic = true};
  const std::vector<float> x = values(100 * 24, 5);
  std::vector<float> one(x.size()), four(x.size()), last(24);
  a.apply({x.data(), 100, 24}, {one.data(), 100, 24}, 1);
  a.apply({x.data(), 100, 24}, {four.data(), 100, 24}, 4);
  a.apply_row(x.data() + 99 * 24, last.data(), 24);
  CHECK(one == four);
  CHECK(std::equal(last.begin(), last.end(), one.end() - 24));
}

TEST_CASE("static W8A8 is the kernel's (sum of codes + quant_bias) * deq_scale, for both dtypes of deq_scale") {
  constexpr std::size_t n = 3, k = 16;
  bool wide = false;
  SUBCASE("F32") {}
  SUBCASE("I64 with the bits of an f32") { wide = true; }
  mini_checkpoint c;
  c.weights_file = "quant_model_weights.safetensors";
  std::vector<std::int8_t> codes(n * k);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::int8_t>(static_cast<int>(i * 37 % 251) - 125);
  const std::vector<float> deq{0.001f, 0.0003f, 0.02f};
  const std::vector<std::int32_t> quant_bias{1234, -7, 90000};
  const float scale = 0.017f, offset = -11;
  add_values(c, "x.weight", dtype::i8, {n, k}, codes);
  add_values(c, "x.quant_bias", dtype::i32, {n}, quant_bias);
  if (wide) {
    std::vector<std::int64_t> bits;
    for (const float d : deq) bits.push_back(std::bit_cast<std::int32_t>(d));
    add_values(c, "x.deq_scale", dtype::i64, {n}, bits);
  } else {
    add_values(c, "x.deq_scale", dtype::f32, {n}, deq);
  }
  add_values<float>(c, "x.input_scale", dtype::f32, {1}, {scale});
  add_values<float>(c, "x.input_offset", dtype::f32, {1}, {offset});
  add_values<float>(c, "x.bias", dtype::f32, {n}, {5, 5, 5});  // folded already: must not be added again
  for (const auto& [name, t] : c.tensors) c.description()[name] = name == "x.bias" ? "FLOAT" : "W8A8";
  const made_folder f{c};
  simulated_contents contents;
  REQUIRE(all_text(read_simulated_ascend_v1(f.folder, inference_phase::decode, contents)) == "");
  const simulated_parameters parameters{f.folder, contents, "llama", 1};
  auto w = parameters.linear("x");
  REQUIRE(w);
  REQUIRE(w->bias.size() == n);
  const auto matrix = std::get<matrix_view<const float>>(w->weight());

  const std::vector<float> x = values(k, 3);
  std::vector<float> seen(k);
  contents.linears.at("x").input.apply_row(x.data(), seen.data(), k);
  for (std::size_t r = 0; r < n; ++r) {
    std::int64_t sum = quant_bias[r];
    double got = w->bias[r];
    for (std::size_t i = 0; i < k; ++i) {
      const float q = std::clamp(std::nearbyint(x[i] * (1 / scale) + offset), -128.0f, 127.0f);
      sum += static_cast<std::int64_t>(q) * codes[r * k + i];
      got += static_cast<double>(seen[i]) * static_cast<double>(matrix(r, i));
    }
    const double kernel = static_cast<double>(sum) * static_cast<double>(deq[r]);
    // Each product has three f32 roundings, each of relative size 2^-24, of terms of at most 139 * 125 steps.
    CHECK(std::fabs(got - kernel) <= 4 * 0x1p-24 * static_cast<double>(k * 139 * 125) * static_cast<double>(deq[r]));
  }
}

TEST_CASE("logits of msModelSlim's folders are those of an independent client") {
  struct golden_case {
    const char *folder, *tensor;
    inference_phase phase;
  };
  for (const golden_case& g : {golden_case{"sf_w8a8_mix_c8", "logits.decode", inference_phase::decode},
                               golden_case{"sf_w8a8_mix_c8", "logits.prefill", inference_phase::prefill},
                               golden_case{"sf_iter_smooth_asym", "logits.decode", inference_phase::decode},
                               golden_case{"sm_moe_w4a8", "logits.decode", inference_phase::decode}}) {
    CAPTURE(g.folder);
    CAPTURE(g.tensor);
    safetensors_file file;
    REQUIRE(safetensors_file::open(golden + g.folder + "/golden.st", file).empty());
    const auto load = [&]<class T>(const char* name, std::vector<T>& out) {
      const tensor_info* t = file.find(name);
      REQUIRE(t != nullptr);
      out.resize(t->elements());
      std::memcpy(out.data(), file.bytes(*t).data(), out.size() * sizeof(T));
    };
    std::vector<std::int32_t> ids;
    std::vector<float> want;
    load("ids", ids);
    load(g.tensor, want);
    const std::vector<float> got = logits_of(golden + g.folder, ids, g.phase);
    REQUIRE(got.size() == want.size());
    float largest = 0, difference = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      largest = std::max(largest, std::fabs(want[i]));
      difference = std::max(difference, std::fabs(got[i] - want[i]));
    }
    CHECK(difference <= 2e-4f * largest);  // the tolerance of the float forward; one code that rounds otherwise would be above it
  }
}

TEST_CASE("what cannot be simulated is named, all of it, before anything runs") {
  mini_checkpoint c = qlib_test::quantized(tiny_model(), "w8a8_dynamic", "ascend_v1");
  complete_config(c);
  simulated_model model;
  const auto problems = [&] {
    temporary_folder folder;
    c.write(folder);
    return all_text(simulated_model::open(folder.path(), {}, model));
  };
  CHECK(problems() == "");
  const std::string q = "model.layers.0.self_attn.q_proj", o = "model.layers.0.self_attn.o_proj";
  SUBCASE("unknown types and missing scales") {
    c.description()[q + ".weight"] = "W8A8SC";
    c.tensors.erase(o + ".weight_scale");
    const std::string text = problems();
    CHECK(text.find("quant_model_description.json: " + q + ".weight: type W8A8SC is not simulated") != std::string::npos);
    CHECK(text.find(o + ".weight_scale: is missing") != std::string::npos);
  }
  SUBCASE("shapes") {
    c.add(o + ".weight_scale", dtype::f32, {63, 1}, 1.0f);
    CHECK(problems().find(o + ".weight_scale: is [63, 1], not [64, 1]") != std::string::npos);
  }
  SUBCASE("online transforms") {
    c.add(o + ".heads_rotation", dtype::f32, {4, 4}, 1.0f);
    CHECK(problems().find("online transforms are not simulated") != std::string::npos);
  }
  SUBCASE("scales of an attention module that does not exist") {
    c.add("model.layers.0.linear_attn.k_proj.kv_cache_scale", dtype::f32, {32}, 1.0f);
    c.description()["model.layers.0.linear_attn.k_proj.kv_cache_scale"] = "C8";
    CHECK(problems().find("model.layers.0.linear_attn: has scales of keys and values") != std::string::npos);
  }
  SUBCASE("formats without a simulation") {
    c.documents.erase("quant_model_description.json");
    c.quantization() = {{"quant_method", "gptq"}, {"bits", 4}};
    CHECK(problems().find("the arithmetic of format gptq is not simulated") != std::string::npos);
  }
}

TEST_CASE("static keys and values, per channel, per head and as fp8, are those of their scales") {
  mini_checkpoint c = qlib_test::quantized(tiny_model(), "w8a8_dynamic", "compressed_tensors");
  complete_config(c);
  const std::string attention = "model.layers.0.self_attn";
  std::vector<float> k = values(3 * 32, 1), v = values(3 * 32, 2), q = values(3 * 64, 3);
  const std::vector<float> before_k = k, before_v = v, before_q = q;
  const std::size_t rows[] = {0, 3};
  simulated_model model;
  const auto run = [&] {
    temporary_folder folder;
    c.write(folder);
    REQUIRE(all_text(simulated_model::open(folder.path(), {}, model)) == "");
    model.hook().attention_input(0, attention, {q.data(), 3, 64}, {k.data(), 3, 32}, {v.data(), 3, 32}, rows, 0);
  };
  SUBCASE("fp8, one scale and one a head") {
    c.quantization()["kv_cache_scheme"] = {{"num_bits", 8}, {"type", "float"}, {"strategy", "tensor"}, {"dynamic", false}, {"symmetric", true}};
    add_values<float>(c, attention + ".k_scale", dtype::f32, {1}, {0.01f});
    add_values<float>(c, attention + ".v_scale", dtype::f32, {2, 1, 1}, {0.25f, 4});
    run();
    REQUIRE(model.hook().ok());
    for (std::size_t i = 0; i < k.size(); ++i) {
      CHECK(k[i] == e4m3_to_float(to_e4m3(before_k[i] / 0.01f)) * 0.01f);
      const float s = i % 32 < 16 ? 0.25f : 4.0f;
      CHECK(v[i] == e4m3_to_float(to_e4m3(before_v[i] / s)) * s);
    }
    CHECK(q == before_q);
  }
  SUBCASE("int8") {
    c.quantization()["kv_cache_scheme"] = {{"num_bits", 8}, {"type", "int"}, {"strategy", "tensor"}, {"dynamic", false}, {"symmetric", true}};
    add_values<float>(c, attention + ".k_scale", dtype::f32, {1}, {0.005f});
    add_values<float>(c, attention + ".v_scale", dtype::f32, {1}, {0.1f});
    run();
    for (std::size_t i = 0; i < k.size(); ++i) {
      CHECK(k[i] == std::clamp(std::nearbyint(before_k[i] / 0.005f), -128.0f, 127.0f) * 0.005f);
      CHECK(v[i] == std::nearbyint(before_v[i] / 0.1f) * 0.1f);
    }
  }
  SUBCASE("a number of scales that divides nothing stops the run") {
    add_values<float>(c, attention + ".k_scale", dtype::f32, {5}, {1, 1, 1, 1, 1});
    run();
    REQUIRE_FALSE(model.hook().ok());
    CHECK(model.hook().ok().error().text().find("5 scales for 32 channels") != std::string::npos);
  }
}

TEST_CASE("FA scales of AscendV1 quantize queries, keys and values by head") {
  mini_checkpoint c = qlib_test::quantized(tiny_model(), "w8a8_dynamic", "ascend_v1");
  complete_config(c);
  const std::string attention = "model.layers.0.self_attn";
  for (const auto& [which, heads] : {std::pair{"q", 4}, {"k", 2}, {"v", 2}}) {
    std::vector<float> scales;
    for (int h = 0; h < heads; ++h) scales.push_back(0.02f * static_cast<float>(h + 1));
    const auto n = static_cast<std::uint64_t>(heads);
    for (const char* part : {".scale", ".offset"}) c.description()[attention + ".fa_" + which + part] = "FAQuant";
    add_values<float>(c, attention + ".fa_" + which + ".scale", dtype::f32, {n, 1}, scales);
    c.add(attention + ".fa_" + which + ".offset", dtype::i8, {n, 1}, std::int8_t{0});
  }
  temporary_folder folder;
  c.write(folder);
  simulated_model model;
  REQUIRE(all_text(simulated_model::open(folder.path(), {}, model)) == "");
  std::vector<float> q = values(64, 3), k = values(32, 1), v = values(32, 2);
  const std::vector<float> before_q = q, before_k = k, before_v = v;
  const std::size_t rows[] = {0, 1};
  model.hook().attention_input(0, attention, {q.data(), 1, 64}, {k.data(), 1, 32}, {v.data(), 1, 32}, rows, 0);
  REQUIRE(model.hook().ok());
  const auto want = [](float x, std::size_t channel) {
    const float s = 0.02f * static_cast<float>(channel / 16 + 1);
    return std::clamp(std::nearbyint(x / s), -128.0f, 127.0f) * s;
  };
  for (std::size_t i = 0; i < 64; ++i) CHECK(q[i] == want(before_q[i], i));
  for (std::size_t i = 0; i < 32; ++i) CHECK(k[i] == want(before_k[i], i));
  for (std::size_t i = 0; i < 32; ++i) CHECK(v[i] == want(before_v[i], i));
}

TEST_CASE("weight_g_idx says which group a column belongs to, unless it was never filled") {
  mini_checkpoint c = qlib_test::quantized(tiny_model(), "w4a16", "compressed_tensors", 32);
  complete_config(c);
  const std::string module = "model.layers.0.mlp.up_proj";
  c.add(module + ".weight_scale", dtype::f32, {64, 2}, 1.0f);
  for (std::size_t r = 0; r < 64; ++r) c.set(module + ".weight_scale", 2 * r + 1, 10.0f);
  const auto first_row = [&] {
    temporary_folder folder;
    c.write(folder);
    simulated_model model;
    REQUIRE(all_text(simulated_model::open(folder.path(), {}, model)) == "");
    std::vector<float> w(64);
    REQUIRE(model.parameters().read(module + ".weight", {w.data(), 1, 64}));
    return w;
  };
  const std::vector<float> plain = first_row();
  REQUIRE(plain[0] != 0);
  CHECK(plain[63] == 10 * plain[0]);
  std::vector<std::int32_t> order(64, -1);
  add_values(c, module + ".weight_g_idx", dtype::i32, {64}, order);
  CHECK(first_row() == plain);
  for (std::size_t i = 0; i < 64; ++i) order[i] = i % 2 == 0;
  add_values(c, module + ".weight_g_idx", dtype::i32, {64}, order);
  const std::vector<float> mixed = first_row();
  for (std::size_t i = 0; i < 64; ++i) CHECK(mixed[i] == (i % 2 == 0 ? 10 : 1) * plain[0]);
}

TEST_CASE("stacked float experts in a quantized folder have the names of their parts") {
  mini_checkpoint c;
  std::vector<float> numbers(24);
  for (std::size_t i = 0; i < 24; ++i) numbers[i] = static_cast<float>(i);
  add_values(c, "m.experts.gate_up_proj", dtype::f32, {2, 4, 3}, numbers);
  add_values(c, "n.experts.gate_up_proj", dtype::f32, {2, 3, 4}, numbers);
  const made_folder f{c};
  simulated_contents contents;
  for (const stored_tensor& t : f.folder.tensors()) contents.floats[t.info.name] = &t;
  const simulated_parameters plain{f.folder, contents, "qwen3_moe", 1}, mixed{f.folder, contents, "gpt_oss", 1};
  std::vector<float> w(6);
  REQUIRE(plain.read("m.experts.1.up_proj.weight", {w.data(), 2, 3}));
  CHECK(w == std::vector<float>{18, 19, 20, 21, 22, 23});
  // gpt_oss: [experts, in, 2 * out], gate and up columns alternate.
  CHECK(mixed.shape("n.experts.1.up_proj.weight") == std::vector<std::uint64_t>{2, 3});
  const auto gate = mixed.linear("n.experts.1.gate_proj");
  REQUIRE(gate);
  const auto g = std::get<matrix_view<const float>>(gate->weight());
  CHECK(std::vector<float>(g.data(), g.data() + 6) == std::vector<float>{12, 16, 20, 14, 18, 22});
}
