// Numbers of the quantizing ops, worked out by hand.
#include <tuple>

#include "bindings.hpp"

using namespace fake_acl_test;

TEST_CASE("AscendQuantV3 multiplies by the scale, rounds half to even and saturates") {
  session s;
  // x * 2 = 1, 3, 5, -1, -5, 1000, -1000, 0 half steps: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2
  array x(std::vector<float>{0.25f, 0.75f, 1.25f, -0.25f, -1.25f, 500, -500, 0}, F32, {1, 8});
  array scale(std::vector<float>{2}, F32, {1});
  array y = empty<int8_t>(I8, {1, 8}, 32);
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, scale.tensor, nullptr, false, "round", I8, -1, y.tensor) == 0);
  const auto q = y.read<int8_t>();
  const std::vector<int8_t> wanted{0, 2, 2, 0, -2, 127, -128, 0};
  CHECK(std::vector<int8_t>(q.begin(), q.begin() + 8) == wanted);

  CHECK(ascend_quant.run(s.stream, x.tensor, scale.tensor, nullptr, false, "floor", I8, y.tensor) == 0);
  CHECK(std::vector<int8_t>{y.read<int8_t>()[0], y.read<int8_t>()[3]} == std::vector<int8_t>{0, -1});
  CHECK(ascend_quant.run(s.stream, x.tensor, scale.tensor, nullptr, false, "ceil", I8, y.tensor) == 0);
  CHECK(std::vector<int8_t>{y.read<int8_t>()[0], y.read<int8_t>()[3]} == std::vector<int8_t>{1, 0});
  CHECK(ascend_quant.run(s.stream, x.tensor, scale.tensor, nullptr, false, "trunc", I8, y.tensor) == 0);
  CHECK(std::vector<int8_t>{y.read<int8_t>()[2], y.read<int8_t>()[4]} == std::vector<int8_t>{2, -2});
  CHECK(ascend_quant.run(s.stream, x.tensor, scale.tensor, nullptr, false, "nearest", I8, y.tensor) == 161002);
}

TEST_CASE("AscendQuantV3 takes one scale a column or a row, adds the offset, and turns NaN into 0") {
  session s;
  array x(std::vector<float>{1, 2, 3, NAN}, F32, {2, 2});
  array scale(std::vector<float>{1, 10}, F32, {2});
  array offset(std::vector<float>{5, -3}, F32, {2});
  array y = empty<int8_t>(I8, {2, 2}, 32);
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, scale.tensor, offset.tensor, false, "round", I8, -1, y.tensor) == 0);
  auto q = y.read<int8_t>();
  CHECK(std::vector<int8_t>(q.begin(), q.begin() + 4) == std::vector<int8_t>{6, 17, 8, 0});  // 1+5, 20-3, 3+5, NaN
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, scale.tensor, offset.tensor, false, "round", I8, -2, y.tensor) == 0);
  q = y.read<int8_t>();
  CHECK(std::vector<int8_t>(q.begin(), q.begin() + 3) == std::vector<int8_t>{6, 7, 27});  // 1+5, 2+5, 30-3
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, scale.tensor, nullptr, false, "round", I8, -3, y.tensor) == 161002);
}

TEST_CASE("AscendQuantV3 refuses what the dtype table does not have") {
  session s;
  array x(halves({1, 2, 3, 4, 5, 6, 7, 8}), F16, {1, 8});
  array scale(std::vector<float>{1}, F32, {1});
  array half_scale(halves({1}), F16, {1});
  array y = empty<int8_t>(I8, {1, 8}, 32);
  array words = empty<int32_t>(I32, {1, 1}, 8);
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, scale.tensor, nullptr, false, "round", I8, -1, y.tensor) == 161002);  // scale has another dtype
  CHECK(std::string(message()).find("dtype of x") != std::string::npos);
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, half_scale.tensor, nullptr, false, "round", I32, -1, y.tensor) == 161002);  // dstType is not y's
  CHECK(ascend_quant_v3.run(s.stream, nullptr, half_scale.tensor, nullptr, false, "round", I8, -1, y.tensor) == 161001);
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, half_scale.tensor, nullptr, false, "round", I32, -1, words.tensor) == 0);
  CHECK(words.read<uint32_t>()[0] == 0x77654321u);
}

TEST_CASE("int4 codes take the low nibble first") {
  session s;
  array x(std::vector<float>{1, -2, 7, -8, 100, -100, 0, 3}, F32, {1, 8});
  array scale(std::vector<float>{1}, F32, {1});
  array y(std::vector<uint8_t>(32, 0), I4, {1, 8});
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, scale.tensor, nullptr, false, "round", I4, -1, y.tensor) == 0);
  const auto bytes = y.read<uint8_t>();
  CHECK(std::vector<int>(bytes.begin(), bytes.begin() + 4) == std::vector<int>{0xE1, 0x87, 0x87, 0x30});
}

TEST_CASE("310P knows neither bf16 nor int4 nor axis -2") {
  session s("Ascend310P3");
  array x(halves({1, 2, 3, 4}), F16, {2, 2});
  array wide(std::vector<uint16_t>(4, bfloat(1)), BF16, {2, 2});
  array scale(halves({1}), F16, {1});
  array wide_scale(std::vector<uint16_t>{bfloat(1)}, BF16, {1});
  array y = empty<int8_t>(I8, {2, 2}, 32);
  array y4 = empty<int8_t>(I4, {2, 2}, 32);
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, scale.tensor, nullptr, false, "round", I8, -1, y.tensor) == 0);
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, scale.tensor, nullptr, false, "round", I8, -2, y.tensor) == 161002);
  CHECK(ascend_quant_v3.run(s.stream, x.tensor, scale.tensor, nullptr, false, "round", I4, -1, y4.tensor) == 161002);
  CHECK(ascend_quant_v3.run(s.stream, wide.tensor, wide_scale.tensor, nullptr, false, "round", I8, -1, y.tensor) == 161002);
}

TEST_CASE("products without an op say so") {
  const auto code_on = [](const char* soc) {
    session s(soc);
    array x(std::vector<float>{1}, F32, {1});
    array y = empty<int8_t>(I8, {1}, 32);
    return ascend_quant_v3.run(s.stream, x.tensor, x.tensor, nullptr, false, "round", I8, -1, y.tensor);
  };
  CHECK(code_on("Ascend910B1") == 0);
  CHECK(code_on("Ascend910_9391") == 0);
  CHECK(code_on("Ascend950PR") == 0);
  CHECK(code_on("Ascend910B") == 361001);  // without a digit: generation 1
  CHECK(code_on("Ascend910A") == 361001);
  CHECK(code_on("Ascend310B4") == 561003);
  CHECK(code_on("AscendSomethingNew") == 0);
}

TEST_CASE("DynamicQuant on A2: factor 127 / amax in fp32, half to even, zero rows give 0 and scale 0") {
  session s;
  // amax 127: the codes are the numbers, ties 0.5 -> 0, 1.5 -> 2, 2.5 -> 2
  array x(halves({127, 0.5, 1.5, 2.5, -0.5, -126.5, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}), F16, {2, 8});
  array y = empty<int8_t>(I8, {2, 8}, 32);
  array scale = empty<float>(F32, {2}, 8);
  CHECK(dynamic_quant.run(s.stream, x.tensor, nullptr, y.tensor, scale.tensor) == 0);
  const auto q = y.read<int8_t>();
  CHECK(std::vector<int8_t>(q.begin(), q.begin() + 16) == std::vector<int8_t>{127, 0, 2, 2, 0, -126, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(scale.read<float>()[0] == doctest::Approx(1.0).epsilon(2e-7));
  CHECK(scale.read<float>()[1] == 0.0f);
}

TEST_CASE("DynamicQuant on 310P rounds half away in fp16 and ignores smooth") {
  std::vector<double> row{127, 0.5, 1.5, 2.5, -0.5, -126.5, 3, 0};
  row.resize(32);
  const auto codes_with = [&](const char* soc, double smooth_value) {
    session s(soc);
    array x(halves(row), F16, {1, 32});
    array smooth(halves(std::vector<double>(32, smooth_value)), F16, {32});
    array y = empty<int8_t>(I8, {1, 32}, 32);
    array scale = empty<float>(F32, {1}, 8);
    REQUIRE(dynamic_quant.run(s.stream, x.tensor, smooth.tensor, y.tensor, scale.tensor) == 0);
    auto q = y.read<int8_t>();
    q.resize(8);
    return std::pair{q, scale.read<float>()[0]};
  };
  CHECK(codes_with("Ascend310P3", 1).first == std::vector<int8_t>{127, 1, 2, 3, -1, -127, 3, 0});
  CHECK(codes_with("Ascend310P3", 4).second == doctest::Approx(1.0).epsilon(1e-3));  // not 4
  CHECK(codes_with("Ascend910A", 4).second == doctest::Approx(1.0).epsilon(1e-3));
  CHECK(codes_with("Ascend910B3", 4).second == doctest::Approx(4.0).epsilon(2e-7));
}

TEST_CASE("DynamicQuant on 310P multiplies in fp16") {
  const auto second_code = [](const char* soc) {
    session s(soc);
    std::vector<double> row(32);
    row[0] = 3, row[1] = 0.53125;
    array x(halves(row), F16, {1, 32});
    array y = empty<int8_t>(I8, {1, 32}, 32);
    array scale = empty<float>(F32, {1}, 8);
    REQUIRE(dynamic_quant.run(s.stream, x.tensor, nullptr, y.tensor, scale.tensor) == 0);
    return y.read<int8_t>()[1];
  };
  CHECK(second_code("Ascend910B3") == 22);  // 0.53125 * 127 / 3 = 22.4896
  CHECK(second_code("Ascend310P3") == 23);  // 0.53125 * fp16(127 / 3) = 0.53125 * 42.34375 = 22.4951 -> fp16 22.5 -> away
}

TEST_CASE("DynamicQuant takes rows of whole 32 values alone on 310P and 910A") {
  const auto code_on = [](const char* soc, i64 columns) {
    session s(soc);
    array x(halves(std::vector<double>(static_cast<size_t>(columns), 1)), F16, {1, columns});
    array y = empty<int8_t>(I8, {1, columns}, 64);
    array scale = empty<float>(F32, {1}, 8);
    const int first = dynamic_quant.run(s.stream, x.tensor, nullptr, y.tensor, scale.tensor);
    CHECK(dynamic_quant_v2.run(s.stream, x.tensor, nullptr, nullptr, I8, y.tensor, scale.tensor, nullptr) == first);
    return first;
  };
  for (const char* soc : {"Ascend310P3", "Ascend910A"}) {
    CHECK(code_on(soc, 33) == 561002);
    CHECK(code_on(soc, 16) == 561002);
    CHECK(code_on(soc, 64) == 0);
  }
  CHECK(code_on("Ascend910B3", 33) == 0);
}

TEST_CASE("AscendQuant computes in fp16 and rounds half away where that is asked for") {
  const auto codes_with = [](const char* arithmetic) {
    session s("Ascend310P3");
    REQUIRE(fake_configure("STATIC", arithmetic) == 0);
    array x(std::vector<float>{0.5f, 2.5f, -0.5f, 22.4951f, 70000, -70000, 1, 3}, F32, {1, 8});
    array scale(std::vector<float>{1}, F32, {1});
    array y = empty<int8_t>(I8, {1, 8}, 32);
    CHECK(ascend_quant.run(s.stream, x.tensor, scale.tensor, nullptr, false, "round", I8, y.tensor) == 0);
    auto q = y.read<int8_t>();
    q.resize(8);
    return q;
  };
  CHECK(codes_with("f16") == std::vector<int8_t>{1, 3, -1, 23, 127, -128, 1, 3});  // fp16(22.4951) = 22.5
  CHECK(codes_with("f32") == std::vector<int8_t>{0, 2, 0, 22, 127, -128, 1, 3});
  CHECK(fake_configure("STATIC", "bf16") == 107000);
}

TEST_CASE("DynamicQuant takes no fp32 and no single dimension, and int4 only on A2") {
  session s;
  array x(std::vector<float>(8, 1), F32, {1, 8});
  array row(halves(std::vector<double>(8, 1)), F16, {8});
  array two(halves({7, -7, 3.5, 1, 0, 0, 0, -3.5}), F16, {1, 8});
  array y = empty<int8_t>(I8, {1, 8}, 32);
  array words = empty<int32_t>(I32, {1, 1}, 8);
  array scale = empty<float>(F32, {1}, 8);
  CHECK(dynamic_quant.run(s.stream, x.tensor, nullptr, y.tensor, scale.tensor) == 161002);
  CHECK(dynamic_quant.run(s.stream, row.tensor, nullptr, y.tensor, scale.tensor) == 161002);
  // amax 7: codes 7 -7 4 1 0 0 0 -4 (3.5 is a tie: to even)
  CHECK(dynamic_quant.run(s.stream, two.tensor, nullptr, words.tensor, scale.tensor) == 0);
  CHECK(words.read<uint32_t>()[0] == 0xC0001497u);
  CHECK(scale.read<float>()[0] == doctest::Approx(1.0).epsilon(2e-7));
}

TEST_CASE("DynamicQuantV2 with an offset: s = (max - min) / 255, off = 127 - max / s, and 310P's differs by a half") {
  const auto run = [](const char* soc) {
    session s(soc);
    std::vector<double> row{0, 255, 100, 1};
    row.resize(32);
    array x(halves(row), F16, {1, 32});
    array y = empty<int8_t>(I8, {1, 32}, 32);
    array scale = empty<float>(F32, {1}, 8);
    array offset = empty<float>(F32, {1}, 8);
    REQUIRE(dynamic_quant_v2.run(s.stream, x.tensor, nullptr, nullptr, I8, y.tensor, scale.tensor, offset.tensor) == 0);
    auto q = y.read<int8_t>();
    q.resize(4);
    return std::tuple{q, scale.read<float>()[0], offset.read<float>()[0]};
  };
  const auto [q, scale, offset] = run("Ascend910B3");
  CHECK(scale == 1.0f);
  CHECK(offset == -128.0f);
  CHECK(q == std::vector<int8_t>{-128, 127, -28, -127});
  CHECK(std::get<2>(run("Ascend310P3")) == -127.5f);
}

TEST_CASE("AscendAntiQuant is (x + offset) * scale") {
  session s;
  array x(std::vector<int8_t>{-128, 0, 5, 127}, I8, {2, 2});
  array scale(std::vector<float>{0.5f, 2}, F32, {2});
  array offset(std::vector<float>{8, -1}, F32, {2});
  array y = empty<uint16_t>(F16, {2, 2}, 16);
  CHECK(ascend_anti_quant.run(s.stream, x.tensor, scale.tensor, offset.tensor, F16, false, y.tensor) == 0);
  auto values = half_values(y.read<uint16_t>());
  values.resize(4);
  CHECK(values == std::vector<double>{-60, -2, 6.5, 252});
}

TEST_CASE("AscendAntiQuant takes scales in fp32, in bf16 where the SoC has it, and never in fp16") {
  const auto code_on = [](const char* soc, int type) {
    session s(soc);
    array x(std::vector<int8_t>{1, 2}, I8, {1, 2});
    array wide(std::vector<float>{1}, F32, {1});
    array narrow(std::vector<uint16_t>{bfloat(1)}, type, {1});
    array y = empty<uint16_t>(F16, {1, 2}, 16);
    return ascend_anti_quant.run(s.stream, x.tensor, type == F32 ? wide.tensor : narrow.tensor, nullptr, F16, false, y.tensor);
  };
  for (const char* soc : {"Ascend910B3", "Ascend310P3"}) {
    CHECK(code_on(soc, F32) == 0);
    CHECK(code_on(soc, F16) == 161002);
  }
  CHECK(code_on("Ascend910B3", BF16) == 0);
  CHECK(code_on("Ascend310P3", BF16) == 161002);
}
