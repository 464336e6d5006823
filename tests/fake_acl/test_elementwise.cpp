// Elementwise ops, reductions and the histogram, worked out by hand.
#include "bindings.hpp"

using namespace fake_acl_test;

namespace {

std::vector<float> first(const array& a, size_t count) {
  auto v = a.read<float>();
  v.resize(count);
  return v;
}

}  // namespace

TEST_CASE("Mul broadcasts, reads any strides and rounds to the dtype") {
  session s;
  array a(std::vector<float>{1, 2, 3, 4, 5, 6}, F32, {2, 3});
  array turned(std::vector<float>{1, 4, 2, 5, 3, 6}, F32, {2, 3}, {1, 2}, 0, {3, 2});
  array row(std::vector<float>{10, 0, -1}, F32, {3});
  array every_second(std::vector<float>{9, 10, 9, 0, 9, -1}, F32, {3}, {2}, 1, {6});
  array out = empty<float>(F32, {2, 3}, 8);
  for (P x : {a.tensor, turned.tensor}) {
    for (P y : {row.tensor, every_second.tensor}) {
      CHECK(mul.run(s.stream, x, y, out.tensor) == 0);
      CHECK(first(out, 6) == std::vector<float>{10, 0, -3, 40, 0, -6});
    }
  }
  array h(halves({1.0009765625, 60000}), F16, {2});
  array h_out = empty<uint16_t>(F16, {2}, 16);
  scalar two(1.5f);
  CHECK(muls.run(s.stream, h.tensor, two.handle, h_out.tensor) == 0);
  CHECK(h_out.read<uint16_t>()[0] == half(1.501953125));  // 1.50146484375 is a tie of 2^-10: to even
  CHECK(h_out.read<uint16_t>()[1] == 0x7C00);
  CHECK(inplace_mul.run(s.stream, a.tensor, row.tensor) == 0);
  CHECK(first(a, 6) == std::vector<float>{10, 0, -3, 40, 0, -6});
  CHECK(mul.run(s.stream, a.tensor, h.tensor, out.tensor) == 161002);
}

TEST_CASE("Add, Adds, Abs, Round and Clamp") {
  session s;
  array a(std::vector<float>{0.5f, 1.5f, -2.5f, 300}, F32, {4});
  array b(std::vector<float>{1, 1, 1, 1}, F32, {4});
  array out = empty<float>(F32, {4}, 8);
  scalar two(2), low(-2), high(100);
  CHECK(add.run(s.stream, a.tensor, b.tensor, two.handle, out.tensor) == 0);
  CHECK(first(out, 4) == std::vector<float>{2.5f, 3.5f, -0.5f, 302});
  CHECK(adds.run(s.stream, a.tensor, high.handle, two.handle, out.tensor) == 0);
  CHECK(first(out, 4) == std::vector<float>{200.5f, 201.5f, 197.5f, 500});
  CHECK(abs_.run(s.stream, a.tensor, out.tensor) == 0);
  CHECK(first(out, 4) == std::vector<float>{0.5f, 1.5f, 2.5f, 300});
  CHECK(round_.run(s.stream, a.tensor, out.tensor) == 0);
  CHECK(first(out, 4) == std::vector<float>{0, 2, -2, 300});
  CHECK(clamp.run(s.stream, a.tensor, low.handle, high.handle, out.tensor) == 0);
  CHECK(first(out, 4) == std::vector<float>{0.5f, 1.5f, -2, 100});
  CHECK(clamp.run(s.stream, a.tensor, nullptr, nullptr, out.tensor) == 161001);
}

TEST_CASE("Cast: towards zero, NaN to 0, saturating; int32 to int8 wraps, and only near 0") {
  session s;
  array a(std::vector<float>{1.9f, -1.9f, NAN, 3e9f}, F32, {4});
  array words = empty<int32_t>(I32, {4}, 8);
  CHECK(cast.run(s.stream, a.tensor, I32, words.tensor) == 0);
  auto w = words.read<int32_t>();
  w.resize(4);
  CHECK(w == std::vector<int32_t>{1, -1, 0, 2147483647});
  CHECK(cast.run(s.stream, a.tensor, I8, words.tensor) == 161002);

  array codes(std::vector<int32_t>{-128, 127, 128, 1919, -2047, 4097, 3001, -2049}, I32, {8});
  array bytes = empty<int8_t>(I8, {8}, 32);
  CHECK(cast.run(s.stream, codes.tensor, I8, bytes.tensor) == 0);
  auto q = bytes.read<int8_t>();
  CHECK(std::vector<int8_t>(q.begin(), q.begin() + 5) == std::vector<int8_t>{-128, 127, -128, 127, 1});  // modulo 256
  CHECK(q[5] == 0);    // 4097 is 4096 in fp16, where 1 would be right
  CHECK(q[6] == -72);  // 3001 -> 3000 in fp16, where -71 would be right
  CHECK(q[7] == 0);    // -2049 -> -2048 in fp16, where -1 would be right
}

TEST_CASE("Round is not on 310P") {
  const auto code_on = [](const char* soc) {
    session s(soc);
    array a(std::vector<float>{1.5f}, F32, {1});
    array out = empty<float>(F32, {1}, 8);
    return round_.run(s.stream, a.tensor, out.tensor);
  };
  CHECK(code_on("Ascend310P3") == 361001);
  CHECK(code_on("Ascend910A") == 0);
  CHECK(code_on("Ascend910B3") == 0);
}

TEST_CASE("bf16 rounds half to even and is not on 310P") {
  const auto code = [](const char* soc, uint16_t& bits) {
    session s(soc);
    array a(std::vector<float>{1.00390625f, 1.01171875f}, F32, {2});  // ties between 1 and 1.0078125, 1.0078125 and 1.015625
    array out = empty<uint16_t>(BF16, {2}, 16);
    const int c = cast.run(s.stream, a.tensor, BF16, out.tensor);
    if (c == 0) bits = static_cast<uint16_t>(out.read<uint16_t>()[1] + out.read<uint16_t>()[0]);
    return c;
  };
  uint16_t sum = 0;
  CHECK(code("Ascend910B3", sum) == 0);
  CHECK(sum == static_cast<uint16_t>(bfloat(1) + bfloat(1.015625f)));
  CHECK(code("Ascend310P3", sum) == 161002);
}

TEST_CASE("InplaceCopy converts and repeats, Permute reorders axes") {
  session s;
  array row(halves({1, 2, 3}), F16, {3});
  array to = empty<float>(F32, {2, 3}, 8);
  CHECK(inplace_copy.run(s.stream, to.tensor, row.tensor) == 0);
  CHECK(first(to, 6) == std::vector<float>{1, 2, 3, 1, 2, 3});
  array a(std::vector<float>{1, 2, 3, 4, 5, 6}, F32, {1, 2, 3});
  array out = empty<float>(F32, {3, 1, 2}, 8);
  axes order({2, 0, -2}), twice({0, 0, 1});
  CHECK(permute.run(s.stream, a.tensor, order.handle, out.tensor) == 0);
  CHECK(first(out, 6) == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(permute.run(s.stream, a.tensor, twice.handle, out.tensor) == 161002);
}

TEST_CASE("Aminmax reduces any axes in the dtype of the input") {
  session s;
  array x(std::vector<float>{1, -2, 3, 4, 5, -6}, F32, {2, 3});
  array low = empty<float>(F32, {2}, 8), high = empty<float>(F32, {2}, 8), kept = empty<float>(F32, {2, 1}, 8), columns = empty<float>(F32, {3}, 8);
  array one = empty<float>(F32, {}, 8), other = empty<float>(F32, {}, 8);
  axes last({-1}), rows({0}), all({});
  CHECK(aminmax.run(s.stream, x.tensor, last.handle, false, low.tensor, high.tensor) == 0);
  CHECK(first(low, 2) == std::vector<float>{-2, -6});
  CHECK(first(high, 2) == std::vector<float>{3, 5});
  CHECK(amax.run(s.stream, x.tensor, last.handle, true, kept.tensor) == 0);
  CHECK(first(kept, 2) == std::vector<float>{3, 5});
  CHECK(amax.run(s.stream, x.tensor, last.handle, false, kept.tensor) == 161002);
  CHECK(amin.run(s.stream, x.tensor, rows.handle, false, columns.tensor) == 0);
  CHECK(first(columns, 3) == std::vector<float>{1, -2, -6});
  CHECK(aminmax_all.run(s.stream, x.tensor, one.tensor, other.tensor) == 0);
  CHECK(first(one, 1)[0] == -6);
  CHECK(first(other, 1)[0] == 5);
  CHECK(amax.run(s.stream, x.tensor, all.handle, false, one.tensor) == 0);
  CHECK(first(one, 1)[0] == 5);
  array index = empty<i64>(I64, {2}, 4);
  CHECK(max_dim.run(s.stream, x.tensor, 1, false, high.tensor, index.tensor) == 0);
  CHECK(index.read<i64>()[0] == 2);
  CHECK(index.read<i64>()[1] == 1);
}

TEST_CASE("Histc: both ends inclusive, outside and NaN ignored, no bf16, equal ends take the data's range") {
  session s;
  array x(std::vector<float>{0, 0.99f, 1, 2, 3, 4, 4.01f, -0.01f, NAN, 2.5f}, F32, {10});
  array out = empty<int32_t>(I32, {4}, 8);
  array half_out = empty<uint16_t>(F16, {4}, 16);
  scalar zero(0), four(4);
  CHECK(histc.run(s.stream, x.tensor, 4, zero.handle, four.handle, out.tensor) == 0);
  auto counts = out.read<int32_t>();
  counts.resize(4);
  CHECK(counts == std::vector<int32_t>{2, 1, 2, 2});
  CHECK(histc.run(s.stream, x.tensor, 4, zero.handle, four.handle, half_out.tensor) == 0);
  CHECK(half_value(half_out.read<uint16_t>()[0]) == 2);
  CHECK(histc.run(s.stream, x.tensor, 5, zero.handle, four.handle, out.tensor) == 161002);
  CHECK(histc.run(s.stream, x.tensor, 4, four.handle, zero.handle, out.tensor) == 161002);
  array data(halves({-1, 0, 1, 3}), F16, {4});
  CHECK(histc.run(s.stream, data.tensor, 4, zero.handle, zero.handle, out.tensor) == 0);
  counts = out.read<int32_t>();
  counts.resize(4);
  CHECK(counts == std::vector<int32_t>{1, 1, 1, 1});
  array wide(std::vector<uint16_t>(4, bfloat(1)), BF16, {4});
  CHECK(histc.run(s.stream, wide.tensor, 4, zero.handle, four.handle, out.tensor) == 161002);
}
