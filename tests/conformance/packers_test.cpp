#include "matrices.hpp"
#include "registered.hpp"

#include <qlib/backend/ascend/ascend_backend.hpp>
#include <qlib/backend/native.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace {

using namespace qlib;

constexpr std::byte canary{0xa5};
constexpr std::size_t margin = 64;

/// Bytes with canaries on both sides.
struct guarded {
  std::vector<std::byte> memory;
  explicit guarded(std::size_t n) : memory(n + 2 * margin, canary) {}
  std::byte* data() { return memory.data() + margin; }
  std::span<const std::byte> bytes() const { return std::span{memory}.subspan(margin, memory.size() - 2 * margin); }
  bool intact() const {
    const auto is_canary = [](std::byte b) { return b == canary; };
    return std::all_of(memory.begin(), memory.begin() + margin, is_canary) && std::all_of(memory.end() - margin, memory.end(), is_canary);
  }
};

std::vector<quant_spec> all_specs() {
  std::vector<quant_spec> specs{{.type = number::floating}};
  for (int bits = 2; bits <= 8; ++bits) specs.push_back({.num_bits = bits});
  return specs;
}

/// Calls law(spec, rows, cols) for every spec and shape that P accepts, and checks that there are some.
template <class P, class Law>
void for_each_accepted(Law law) {
  std::size_t accepted = 0;
  for (const quant_spec& spec : all_specs())
    for (const std::size_t rows : {1u, 2u, 3u, 4u, 6u})
      for (std::size_t cols = 1; cols <= 70; ++cols)
        if (P{}.accepts(spec, rows, cols)) ++accepted, law(spec, rows, cols);
  CHECK(accepted > 0);
}

law::matrix<std::int8_t> any_codes(const quant_spec& spec, std::size_t rows, std::size_t cols) {
  return law::codes(rows, cols, spec.type == number::floating ? -128 : spec.qmin(), spec.type == number::floating ? 127 : spec.qmax(),
                    static_cast<unsigned>(rows * 100 + cols));
}

template <class P, class B = scalar_backend>
guarded packed(const quant_spec& spec, matrix_view<const std::int8_t> codes, const B& backend = {}) {
  guarded out{P{}.layout(spec, codes.rows(), codes.cols()).bytes()};
  P{}.pack(backend, spec, codes, out.data());
  return out;
}

/// The packed words of one row (or of two rows for int4_rows), as a format reads them.
template <class Word, class P>
std::vector<Word> words(const quant_spec& spec, std::size_t rows, std::size_t cols, std::vector<std::int8_t> codes) {
  const guarded bytes = packed<P>(spec, {codes.data(), rows, cols});
  std::vector<Word> out(bytes.bytes().size() / sizeof(Word));
  std::memcpy(out.data(), bytes.bytes().data(), bytes.bytes().size());
  return out;
}

using words32 = std::vector<std::uint32_t>;

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("unpack(pack(q)) == q for every width and odd shape", P, packer_inverse) {
  for_each_accepted<P>([](const quant_spec& spec, std::size_t rows, std::size_t cols) {
    const auto q = any_codes(spec, rows, cols);
    law::matrix<std::int8_t> back{rows, cols};
    P{}.unpack(scalar_backend{}, spec, packed<P>(spec, q.view()).data(), back.view());
    if (back.elements != q.elements) FAIL_CHECK(spec.num_bits << " bits, " << rows << " x " << cols);
  });
}
TEST_CASE_TEMPLATE_APPLY(packer_inverse, law::packers);

TEST_CASE_TEMPLATE_DEFINE("the layout is what is written: all of it, and nothing else", P, packer_layout) {
  for_each_accepted<P>([](const quant_spec& spec, std::size_t rows, std::size_t cols) {
    const auto q = any_codes(spec, rows, cols);
    const packed_layout layout = P{}.layout(spec, rows, cols);
    guarded zeros{layout.bytes()}, ones{layout.bytes()};
    std::fill_n(zeros.data(), layout.bytes(), std::byte{0x00});
    std::fill_n(ones.data(), layout.bytes(), std::byte{0xff});
    P{}.pack(scalar_backend{}, spec, q.view(), zeros.data());
    P{}.pack(scalar_backend{}, spec, q.view(), ones.data());
    if (!zeros.intact() || !ones.intact() || !std::ranges::equal(zeros.bytes(), ones.bytes()))
      FAIL_CHECK(spec.num_bits << " bits, " << rows << " x " << cols);
  });
}
TEST_CASE_TEMPLATE_APPLY(packer_layout, law::packers);

TEST_CASE_TEMPLATE_DEFINE("strips of row_multiple rows, one after the other, are the whole", P, packer_strips) {
  for_each_accepted<P>([](const quant_spec& spec, std::size_t rows, std::size_t cols) {
    const auto q = any_codes(spec, rows, cols);
    std::vector<std::byte> strips;
    for (std::size_t r = 0; r < rows; r += P::row_multiple) {
      const guarded strip = packed<P>(spec, q.view().strip(r, P::row_multiple));
      strips.insert(strips.end(), strip.bytes().begin(), strip.bytes().end());
    }
    if (!std::ranges::equal(strips, packed<P>(spec, q.view()).bytes())) FAIL_CHECK(spec.num_bits << " bits, " << rows << " x " << cols);
  });
}
TEST_CASE_TEMPLATE_APPLY(packer_strips, law::packers);

TEST_CASE_TEMPLATE_DEFINE("bits that hold no code are zero", P, packer_unused_bits) {
  if constexpr (!P::stores_codes)  // a code that is stored as a byte fills it with its sign
    for_each_accepted<P>([](const quant_spec& spec, std::size_t rows, std::size_t cols) {
      std::vector<std::byte> used(P{}.layout(spec, rows, cols).bytes());
      for (int code = spec.qmin(); code <= spec.qmax(); ++code) {
        const law::matrix<std::int8_t> q{rows, cols, static_cast<std::int8_t>(code)};
        const guarded bytes = packed<P>(spec, q.view());
        std::ranges::transform(used, bytes.bytes(), used.begin(), [](std::byte x, std::byte y) { return x | y; });
      }
      std::size_t bits = 0;
      for (const std::byte b : used) bits += static_cast<std::size_t>(std::popcount(static_cast<unsigned>(b)));
      if (bits != rows * cols * static_cast<std::size_t>(spec.num_bits)) FAIL_CHECK(spec.num_bits << " bits, " << rows << " x " << cols);
    });
}
TEST_CASE_TEMPLATE_APPLY(packer_unused_bits, law::packers);

TEST_CASE_TEMPLATE_DEFINE("codes in a wider matrix are packed like codes that stand close", P, packer_stride) {
  for_each_accepted<P>([](const quant_spec& spec, std::size_t rows, std::size_t cols) {
    const auto close = any_codes(spec, rows, cols);
    law::matrix<std::int8_t> wide{rows, cols + 5, std::int8_t{1}};
    for (std::size_t r = 0; r < rows; ++r) std::memcpy(wide.view().row(r), close.view().row(r), cols);
    const guarded bytes = packed<P>(spec, {wide.elements.data(), rows, cols, cols + 5});
    law::matrix<std::int8_t> back{rows, cols + 5, std::int8_t{1}};
    P{}.unpack(scalar_backend{}, spec, bytes.bytes().data(), {back.elements.data(), rows, cols, cols + 5});
    if (!std::ranges::equal(bytes.bytes(), packed<P>(spec, close.view()).bytes()) || back.elements != wide.elements)
      FAIL_CHECK(spec.num_bits << " bits, " << rows << " x " << cols);
  });
}
TEST_CASE_TEMPLATE_APPLY(packer_stride, law::packers);

TEST_CASE_TEMPLATE_DEFINE("the native backend and that of NPUs pack the scalar backend's bytes", P, packer_native) {
  for_each_accepted<P>([](const quant_spec& spec, std::size_t rows, std::size_t cols) {
    const auto q = any_codes(spec, rows, cols);
    const guarded scalar = packed<P>(spec, q.view());
    for (const guarded& found : {packed<P>(spec, q.view(), native_backend{}), packed<P>(spec, q.view(), ascend_backend{})})
      if (!found.intact() || !std::ranges::equal(found.bytes(), scalar.bytes())) FAIL_CHECK(spec.num_bits << " bits, " << rows << " x " << cols);
  });
}
TEST_CASE_TEMPLATE_APPLY(packer_native, law::packers);

TEST_CASE_TEMPLATE_DEFINE("a packer refuses what it cannot store, and says what it needs", P, packer_refusal) {
  std::size_t refused = 0;
  for (const quant_spec& spec : {quant_spec{.type = number::floating}, quant_spec{.num_bits = 8}, quant_spec{.num_bits = 1},
                                 quant_spec{.num_bits = 0}, quant_spec{.num_bits = -1}, quant_spec{.num_bits = 9}, quant_spec{.num_bits = 16}}) {
    const status s = P{}.accepts(spec, 2, 2);
    const bool exists = spec.num_bits == 8;
    if (!exists) CHECK_MESSAGE(!s, spec.num_bits, " bits");
    if (s) continue;
    ++refused;
    CHECK(s.error().text().find("needs") != std::string::npos);
  }
  CHECK(refused > 0);
}
TEST_CASE_TEMPLATE_APPLY(packer_refusal, law::packers);

// Published vectors: compressed-tensors' pack-quantized.
TEST_CASE("pack_quantized writes compressed-tensors' words") {
  using P = pack_quantized_packer;
  CHECK(words<std::uint32_t, P>({.num_bits = 4}, 1, 16, {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}) == words32{0x76543210, 0xfedcba98});
  CHECK(words<std::uint32_t, P>({.num_bits = 8}, 1, 5, {-128, -1, 0, 127, 5}) == words32{0xff807f00, 0x00000085});
  std::vector<std::int8_t> ramp(32);
  for (int i = 0; i < 32; ++i) ramp[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(i % 8 - 4);
  CHECK(words<std::uint32_t, P>({.num_bits = 3}, 1, 32, ramp) == words32{0x88fac688, 0xc688fac6, 0xfac688fa});
  ramp.resize(12);
  CHECK(words<std::uint32_t, P>({.num_bits = 3}, 1, 12, ramp) == words32{0x88fac688, 0x00000006});
}

TEST_CASE("packed zero points are compressed-tensors' words along the output channels") {
  const auto column = [](int count) {
    std::vector<std::int32_t> zeros(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) zeros[static_cast<std::size_t>(i)] = i - 8;
    words32 out((zeros.size() * 4 + 31) / 32, 0xffffffffu);
    pack_zero_points({zeros.data(), zeros.size(), 1}, 4, {out.data(), out.size(), 1});
    return out;
  };
  CHECK(column(16) == words32{0x76543210, 0xfedcba98});
  CHECK(column(10) == words32{0x76543210, 0x00000098});
}

TEST_CASE("zero points of every width read back, whatever the number of rows and groups") {
  for (int bits = 2; bits <= 8; ++bits)
    for (std::size_t rows = 1; rows <= 70; ++rows) {
      const std::size_t groups = 3, height = (rows * static_cast<std::size_t>(bits) + 31) / 32;
      const auto zeros = law::codes(rows, groups, -(1 << (bits - 1)), (1 << (bits - 1)) - 1, static_cast<unsigned>(rows));
      const std::vector<std::int32_t> wide{zeros.elements.begin(), zeros.elements.end()};
      words32 out(height * groups);
      pack_zero_points({wide.data(), rows, groups}, bits, {out.data(), height, groups});
      std::size_t wrong = 0;
      for (std::size_t g = 0; g < groups; ++g)
        for (std::size_t r = 0; r < rows; ++r) {
          unsigned field = 0;
          for (unsigned b = 0; b < static_cast<unsigned>(bits); ++b) {
            const std::size_t bit = r * static_cast<std::size_t>(bits) + b;
            field |= (out[bit / 32 * groups + g] >> (bit % 32) & 1u) << b;
          }
          wrong += static_cast<int>(field) - (1 << (bits - 1)) != zeros.view()(r, g);
        }
      REQUIRE(wrong == 0);
    }
}

// msModelSlim's pack_int4: the even output row in the low nibble.
TEST_CASE("int4_rows writes AscendV1's bytes") {
  CHECK(words<std::int8_t, int4_rows_packer>({.num_bits = 4}, 4, 2, {1, -2, -8, 7, 0, 3, 5, -1}) == std::vector<std::int8_t>{-127, 126, 80, -13});
}

TEST_CASE("int4_columns puts the even column in the low nibble") {
  CHECK(words<std::int8_t, int4_columns_packer>({.num_bits = 4}, 2, 2, {1, -8, -2, 7}) == std::vector<std::int8_t>{-127, 126});
}
