// The matrix products, worked out by hand.
#include "bindings.hpp"

using namespace fake_acl_test;

namespace {

uint32_t bits(float x) {
  uint32_t u = 0;
  std::memcpy(&u, &x, 4);
  return u;
}

// x1 [2, 3] x2 [3, 2] -> [[14, -4], [32, -7]]
const std::vector<int8_t> left{1, 2, 3, 4, 5, 6};
const std::vector<int8_t> right{1, 0, 2, 1, 3, -2};         // [3, 2]
const std::vector<int8_t> right_turned{1, 2, 3, 0, 1, -2};  // [2, 3]

}  // namespace

TEST_CASE("QuantMatmul without scales in use gives the int32 sums, either way x2 is stored") {
  session s;
  array x1(left, I8, {2, 3});
  array x2(right, I8, {3, 2});
  array turned(right_turned, I8, {2, 3});
  array swapped(right_turned, I8, {3, 2}, {1, 3}, 0, {2, 3});
  array scale(std::vector<float>{7}, F32, {1});
  array bias(std::vector<int32_t>{100, 200}, I32, {2});
  array out = empty<int32_t>(I32, {2, 2}, 8);
  const auto sums = [&] {
    auto r = out.read<int32_t>();
    r.resize(4);
    return r;
  };
  const std::vector<int32_t> wanted{14, -4, 32, -7};
  // row 2: 4*1+5*2+6*3 = 32, 4*0+5*1+6*-2 = -7
  CHECK(quant_matmul_v5.run(s.stream, x1.tensor, x2.tensor, nullptr, scale.tensor, nullptr, nullptr, nullptr, nullptr, nullptr, false, false, 0,
                            out.tensor) == 0);
  CHECK(sums() == wanted);
  CHECK(quant_matmul_v4.run(s.stream, x1.tensor, turned.tensor, scale.tensor, nullptr, nullptr, nullptr, false, true, out.tensor) == 0);
  CHECK(sums() == wanted);
  CHECK(quant_matmul_v3.run(s.stream, x1.tensor, swapped.tensor, scale.tensor, nullptr, bias.tensor, false, false, out.tensor) == 0);
  CHECK(sums() == std::vector<int32_t>{114, 196, 132, 193});
}

TEST_CASE("QuantMatmul scales by column and token, after an integer bias and before a floating one") {
  session s;
  array x1(left, I8, {2, 3});
  array x2(right, I8, {3, 2});
  array columns(std::vector<float>{0.5, 2}, F32, {2});
  array tokens(std::vector<float>{1, 3}, F32, {2});
  array whole(std::vector<int32_t>{2, -2}, I32, {2});
  array real(std::vector<float>{1, 1}, F32, {2});
  array out = empty<uint16_t>(F16, {2, 2}, 16);
  array wide = empty<uint16_t>(BF16, {2, 2}, 16);
  const auto product = [&](P bias) {
    REQUIRE(quant_matmul_v5.run(s.stream, x1.tensor, x2.tensor, tokens.tensor, columns.tensor, nullptr, nullptr, nullptr, nullptr, bias, false, false,
                                0, out.tensor) == 0);
    auto r = half_values(out.read<uint16_t>());
    r.resize(4);
    return r;
  };
  CHECK(product(nullptr) == std::vector<double>{7, -8, 48, -42});
  CHECK(product(whole.tensor) == std::vector<double>{8, -12, 51, -54});
  CHECK(product(real.tensor) == std::vector<double>{8, -7, 49, -41});
  CHECK(quant_matmul_v5.run(s.stream, x1.tensor, x2.tensor, nullptr, columns.tensor, nullptr, nullptr, nullptr, nullptr, nullptr, false, false, 0,
                            wide.tensor) == 0);
  CHECK(wide.read<uint16_t>()[0] == bfloat(7));
  CHECK(wide.read<uint16_t>()[3] == bfloat(-14));
}

TEST_CASE("fp16 out without token scales wants the 64-bit scale, whose lowest 13 bits are lost") {
  session s;
  array x1(left, I8, {2, 3});
  array x2(right, I8, {3, 2});
  array scale(std::vector<float>{1.00097644f}, F32, {1});  // 0x3F801FFF: just below 1 + 2^-10
  array wide = empty<uint64_t>(U64, {1}, 4);
  array out = empty<uint16_t>(F16, {2, 2}, 16);
  const auto product = [&](P scales) {
    return quant_matmul_v5.run(s.stream, x1.tensor, x2.tensor, nullptr, scales, nullptr, nullptr, nullptr, nullptr, nullptr, false, false, 0,
                               out.tensor);
  };
  CHECK(product(scale.tensor) == 161002);
  CHECK(trans_quant_param.run(s.stream, scale.tensor, nullptr, wide.tensor) == 0);
  CHECK(wide.read<uint64_t>()[0] == ((1ull << 46) | 0x3F800000u));
  CHECK(product(wide.tensor) == 0);
  auto values = half_values(out.read<uint16_t>());
  values.resize(4);
  CHECK(values == std::vector<double>{14, -4, 32, -7});
}

TEST_CASE("TransQuantParamV2 keeps a signed 9-bit offset at bit 37, which int8 out adds") {
  session s;
  array x1(left, I8, {2, 3});
  array x2(right, I8, {3, 2});
  array scale(std::vector<float>{0.25f, 8}, F32, {2});
  array offset(std::vector<float>{-3, 300}, F32, {2});
  array wide = empty<uint64_t>(U64, {2}, 4);
  array out = empty<int8_t>(I8, {2, 2}, 32);
  CHECK(trans_quant_param.run(s.stream, scale.tensor, offset.tensor, wide.tensor) == 0);
  CHECK(wide.read<uint64_t>()[0] == ((1ull << 46) | (0x1FDull << 37) | bits(0.25f)));
  CHECK(wide.read<uint64_t>()[1] == ((1ull << 46) | (0xFFull << 37) | bits(8.0f)));
  CHECK(quant_matmul_v4.run(s.stream, x1.tensor, x2.tensor, wide.tensor, nullptr, nullptr, nullptr, false, false, out.tensor) == 0);
  auto q = out.read<int8_t>();
  q.resize(4);
  CHECK(q == std::vector<int8_t>{0, 127, 5, 127});  // 3.5 - 3 = 0.5 -> 0; -32 + 255 saturates; 8 - 3; -56 + 255
}

TEST_CASE("QuantMatmul refuses what the table of 2.3 does not have") {
  session s;
  array x1(left, I8, {2, 3});
  array x2(right, I8, {3, 2});
  array bad(right, I8, {2, 3});
  array strided(std::vector<int8_t>(12, 1), I8, {3, 2}, {4, 2}, 0, {12});
  array columns(std::vector<float>{0.5, 2}, F32, {2});
  array three(std::vector<float>{1, 2, 3}, F32, {3});
  array tokens(std::vector<float>{1, 3}, F32, {2});
  array half_bias(halves({1, 1}), F16, {2});
  array out = empty<uint16_t>(F16, {2, 2}, 16);
  array wide = empty<uint16_t>(BF16, {2, 2}, 16);
  array whole = empty<int32_t>(I32, {2, 2}, 8);
  const auto code = [&](P b, P token, P scale, P x_offset, P bias, i64 group, P result) {
    return quant_matmul_v5.run(s.stream, x1.tensor, b, token, scale, nullptr, x_offset, nullptr, nullptr, bias, false, false, group, result);
  };
  CHECK(code(x2.tensor, tokens.tensor, columns.tensor, nullptr, nullptr, 0, out.tensor) == 0);
  CHECK(code(bad.tensor, tokens.tensor, columns.tensor, nullptr, nullptr, 0, out.tensor) == 161002);       // inner dims
  CHECK(code(strided.tensor, tokens.tensor, columns.tensor, nullptr, nullptr, 0, out.tensor) == 161002);   // strides
  CHECK(code(x2.tensor, tokens.tensor, three.tensor, nullptr, nullptr, 0, out.tensor) == 161002);          // scale length
  CHECK(code(x2.tensor, three.tensor, columns.tensor, nullptr, nullptr, 0, out.tensor) == 161002);         // token scale length
  CHECK(code(x2.tensor, tokens.tensor, columns.tensor, tokens.tensor, nullptr, 0, out.tensor) == 161002);  // x1Offset is reserved
  CHECK(code(x2.tensor, nullptr, columns.tensor, nullptr, half_bias.tensor, 0, wide.tensor) == 161002);    // fp16 bias, bf16 out
  CHECK(code(x2.tensor, tokens.tensor, columns.tensor, nullptr, nullptr, 0, whole.tensor) == 161002);      // int32 out with token scales
  CHECK(code(x2.tensor, tokens.tensor, columns.tensor, nullptr, nullptr, 128, out.tensor) == 161002);      // not modelled
  CHECK(quant_matmul_v3.run(s.stream, x1.tensor, x2.tensor, nullptr, nullptr, nullptr, false, false, out.tensor) == 161001);
}

TEST_CASE("a last dim above 65535 is refused, unless the scales are fp32 of one dim on A2") {
  session s;
  const size_t k = 65536;
  array x1(std::vector<int8_t>(k, 1), I8, {1, static_cast<i64>(k)});
  array x2(std::vector<int8_t>(k, 1), I8, {1, static_cast<i64>(k)});
  array wide(std::vector<uint64_t>(4, 1ull << 46 | 0x3F800000u), U64, {1});
  array scale(std::vector<float>(8, 1), F32, {1});
  array token(std::vector<float>(8, 1), F32, {1});
  array out = empty<uint16_t>(F16, {1, 1}, 16);
  array whole = empty<int32_t>(I32, {1, 1}, 8);
  CHECK(quant_matmul_v4.run(s.stream, x1.tensor, x2.tensor, wide.tensor, nullptr, nullptr, nullptr, false, true, out.tensor) == 161002);
  CHECK(quant_matmul_v4.run(s.stream, x1.tensor, x2.tensor, scale.tensor, nullptr, nullptr, nullptr, false, true, whole.tensor) == 0);
  CHECK(whole.read<int32_t>()[0] == 65536);
}

TEST_CASE("310P multiplies int8 to fp16, with token scales only from a transposed FRACTAL_NZ weight") {
  session s("Ascend310P3");
  array x1(left, I8, {2, 3});
  array x2(right_turned, I8, {2, 3});
  std::vector<int8_t> blocks(16 * 32, 0);  // (n, k) = (2, 3) in one tile [1, 1, 16, 32]
  for (size_t n = 0; n < 2; ++n) {
    for (size_t k = 0; k < 3; ++k) blocks[n * 32 + k] = right_turned[n * 3 + k];
  }
  array nz(blocks, I8, {2, 3}, {3, 1}, 0, {1, 1, 16, 32}, 29);
  array columns(std::vector<float>{0.5, 2}, F32, {2});
  array tokens(std::vector<float>{1, 3}, F32, {2});
  array wide(std::vector<uint64_t>(4, 1ull << 46 | 0x3F800000u), U64, {1});
  array out = empty<uint16_t>(F16, {2, 2}, 16);
  array whole = empty<int32_t>(I32, {2, 2}, 8);
  const auto code = [&](P b, P token, P scale, P result) {
    return quant_matmul_v4.run(s.stream, x1.tensor, b, scale, nullptr, token, nullptr, false, true, result);
  };
  CHECK(code(x2.tensor, tokens.tensor, columns.tensor, out.tensor) == 161002);
  CHECK(code(x2.tensor, nullptr, columns.tensor, whole.tensor) == 161002);
  CHECK(code(x2.tensor, nullptr, wide.tensor, out.tensor) == 0);
  CHECK(half_value(out.read<uint16_t>()[2]) == 32);
  CHECK(code(nz.tensor, tokens.tensor, columns.tensor, out.tensor) == 0);
  CHECK(half_value(out.read<uint16_t>()[3]) == -42);
}

TEST_CASE("int4 operands are nibbles or int32 words of eight") {
  session s;
  // x1 [1, 8] = 1 2 3 4 -1 -2 -3 7, x2 [1, 8] (transposed) = 1 1 1 1 2 2 2 -8
  array x1(std::vector<uint32_t>{0x7DEF4321u, 0, 0, 0, 0, 0, 0, 0}, I32, {1, 1});
  array x2(std::vector<uint8_t>{0x11, 0x11, 0x22, 0x82, 0, 0, 0, 0}, I4, {1, 8});
  array columns(std::vector<float>(8, 0.5), F32, {1});
  array tokens(std::vector<float>(8, 1), F32, {1});
  array out = empty<uint16_t>(F16, {1, 1}, 16);
  CHECK(quant_matmul_v4.run(s.stream, x1.tensor, x2.tensor, columns.tensor, nullptr, tokens.tensor, nullptr, false, true, out.tensor) == 0);
  CHECK(half_value(out.read<uint16_t>()[0]) == -29);  // (10 - 12 - 56) / 2
}

TEST_CASE("WeightQuantBatchMatmul dequantizes (w + offset) * scale, per column or per group") {
  session s;
  std::vector<int8_t> w(64 * 2);
  for (size_t k = 0; k < 64; ++k) w[2 * k] = 1, w[2 * k + 1] = static_cast<int8_t>(k < 32 ? 2 : -2);
  array x(halves(std::vector<double>(64, 1)), F16, {1, 64});
  array weight(w, I8, {64, 2});
  array scale(halves({0.5, 0.25}), F16, {2});
  array offset(halves({3, 0}), F16, {2});
  array groups(halves({1, 1, 2, 4}), F16, {2, 2});
  array bias(halves({10, 20}), F16, {2});
  array y = empty<uint16_t>(F16, {1, 2}, 16);
  const auto product = [&](P scales, P offsets, P biases, int group) {
    REQUIRE(weight_matmul_v2.run(s.stream, x.tensor, weight.tensor, scales, offsets, nullptr, nullptr, biases, group, y.tensor) == 0);
    auto r = half_values(y.read<uint16_t>());
    r.resize(2);
    return r;
  };
  CHECK(product(scale.tensor, nullptr, nullptr, 0) == std::vector<double>{32, 0});
  CHECK(product(scale.tensor, offset.tensor, nullptr, 0) == std::vector<double>{128, 0});
  CHECK(product(groups.tensor, nullptr, bias.tensor, 32) == std::vector<double>{106, -172});  // 32 + 64 + 10; 64 - 256 + 20
  const auto code = [&](int group) {
    return weight_matmul_v2.run(s.stream, x.tensor, weight.tensor, groups.tensor, nullptr, nullptr, nullptr, nullptr, group, y.tensor);
  };
  CHECK(code(16) == 161002);
  CHECK(code(48) == 161002);
  CHECK(code(64) == 161002);
}

TEST_CASE("WeightQuantBatchMatmul adds the offset in fp16 and rounds to the dtype of x") {
  session s;
  // 127 + 1.5625 = 128.5625: in fp16 (steps of 1/8) a tie, to 128.5; in bf16 (steps of 1) another, to 128. At once it were 129.
  array x(std::vector<uint16_t>(32, bfloat(1)), BF16, {1, 1});
  array weight(std::vector<int8_t>(32, 127), I8, {1, 1});
  array scale(std::vector<uint16_t>(16, bfloat(1)), BF16, {1});
  array offset(std::vector<uint16_t>(16, bfloat(1.5625f)), BF16, {1});
  array y = empty<uint16_t>(BF16, {1, 1}, 16);
  CHECK(weight_matmul_v2.run(s.stream, x.tensor, weight.tensor, scale.tensor, offset.tensor, nullptr, nullptr, nullptr, 0, y.tensor) == 0);
  CHECK(y.read<uint16_t>()[0] == bfloat(128));
}

TEST_CASE("WeightQuantBatchMatmul sums in another order each time, until determinism is asked for") {
  session s;
  // One large number early, its negative late, small ones between: they are lost or kept as the order goes.
  std::vector<double> values(4096, 0);
  for (size_t i = 8; i < 4088; i += 8) values[i] = 0x1p-10;
  values[0] = 32768;
  values[4088] = -32768;
  array weight(std::vector<int8_t>(4096, 1), I8, {4096, 1});
  array x(halves(values), F16, {1, 4096});
  array scale(halves(std::vector<double>(16, 1)), F16, {1});
  array y = empty<uint16_t>(F16, {1, 1}, 16);
  const auto product = [&] {
    REQUIRE(weight_matmul_v2.run(s.stream, x.tensor, weight.tensor, scale.tensor, nullptr, nullptr, nullptr, nullptr, 0, y.tensor) == 0);
    return half_value(y.read<uint16_t>()[0]);
  };
  CHECK(product() != product());
  const call<int(int, i64)> set_option{"aclrtCtxSetSysParamOpt"};
  CHECK(set_option(0, 1) == 0);
  const double fixed = product();
  CHECK(product() == fixed);
  CHECK(product() == fixed);
}

TEST_CASE("WeightQuantBatchMatmulV3 is not on 310P, and innerPrecise 1 wants groups, few rows and FRACTAL_NZ") {
  const auto code = [](const char* soc, int precise) {
    session s(soc);
    array x(halves(std::vector<double>(64, 1)), F16, {1, 64});
    array weight(std::vector<int8_t>(64, 1), I8, {64, 1});
    array scale(halves(std::vector<double>(16, 1)), F16, {1});
    array y = empty<uint16_t>(F16, {1, 1}, 16);
    return weight_matmul_v3.run(s.stream, x.tensor, weight.tensor, scale.tensor, nullptr, nullptr, nullptr, nullptr, 0, precise, y.tensor);
  };
  CHECK(code("Ascend910B3", 0) == 0);
  CHECK(code("Ascend910B3", 1) == 161002);
  CHECK(code("Ascend310P3", 0) == 361001);
}

TEST_CASE("Mm multiplies in fp32 and rounds once; cubeMathType 0 with fp32 is not on 310P") {
  session s;
  array a(halves({1, 2, 3, 4}), F16, {2, 2});
  array b(halves({5, 6, 7, 8}), F16, {2, 2});
  array swapped(halves({5, 7, 6, 8}), F16, {2, 2}, {1, 2}, 0, {2, 2});
  array out = empty<uint16_t>(F16, {2, 2}, 16);
  for (P right_operand : {b.tensor, swapped.tensor}) {
    CHECK(mm.run(s.stream, a.tensor, right_operand, out.tensor, 0) == 0);
    auto r = half_values(out.read<uint16_t>());
    r.resize(4);
    CHECK(r == std::vector<double>{19, 22, 43, 50});
  }
  const auto square_of = [](const char* soc, int8_t cube, float& out_value) {
    session t(soc);
    array x(std::vector<float>(8, 1.0009765625f + 0x1p-20f), F32, {1, 1});
    array one(std::vector<float>(8, 1), F32, {1, 1});
    array y = empty<float>(F32, {1, 1}, 8);
    const int code = mm.run(t.stream, x.tensor, one.tensor, y.tensor, cube);
    out_value = y.read<float>()[0];
    return code;
  };
  float value = 0;
  CHECK(square_of("Ascend910B3", 0, value) == 0);
  CHECK(value == 1.0009765625f + 0x1p-20f);
  CHECK(square_of("Ascend910B3", 3, value) == 0);
  CHECK(value == 1.0009765625f);
  CHECK(square_of("Ascend310P3", 0, value) == 161002);
  CHECK(square_of("Ascend310P3", 1, value) == 0);
}

TEST_CASE("ConvertWeightToINT4Pack does everything in phase 1") {
  session s;
  array weight(std::vector<int32_t>{1, -2, 7, -8, 0, 3, -1, 4}, I32, {1, 8});
  array nibbles(std::vector<uint8_t>(32, 0), I4, {1, 8});
  array words = empty<uint32_t>(I32, {1, 1}, 8);
  array outside(std::vector<int32_t>{8, 0, 0, 0, 0, 0, 0, 0}, I32, {1, 8});
  u64 workspace = 7;
  P executor = &workspace;
  const auto phase1 = function<int(P, P, u64*, P*)>("aclnnConvertWeightToINT4PackGetWorkspaceSize");
  CHECK(phase1(weight.tensor, nibbles.tensor, &workspace, &executor) == 0);
  CHECK(workspace == 7);  // untouched
  CHECK(executor == &workspace);
  const auto bytes = nibbles.read<uint8_t>();
  CHECK(std::vector<int>(bytes.begin(), bytes.begin() + 4) == std::vector<int>{0xE1, 0x87, 0x30, 0x4F});
  CHECK(phase1(weight.tensor, words.tensor, &workspace, &executor) == 0);
  CHECK(words.read<uint32_t>()[0] == 0x4F3087E1u);
  CHECK(phase1(outside.tensor, nibbles.tensor, &workspace, &executor) == 161002);
}
