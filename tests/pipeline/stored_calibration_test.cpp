#include "../io/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <qlib/io/checksum.hpp>
#include <qlib/pipeline/stored_calibration.hpp>

#include <bit>
#include <cstring>
#include <limits>
#include <memory>

using namespace qlib_test;

namespace {

constexpr std::uint64_t key = 0x0123456789abcdefu;
constexpr float infinity = std::numeric_limits<float>::infinity();

std::shared_ptr<const qlib::hadamard_rotation> rotation_of(std::size_t size, std::size_t block, std::optional<std::uint64_t> seed) {
  qlib::rotation_options options;
  options.block_size = block;
  options.seed = seed;
  auto made = qlib::hadamard_rotation::make(size, options);
  REQUIRE(made);
  return std::make_shared<const qlib::hadamard_rotation>(*std::move(made));
}

/// A value in every field, the odd ones among them.
qlib::calibration everything() {
  qlib::calibration c;
  c.operands.resize(3);
  c.operands[0] = {{0.1f, 1e-40f, -0.0f}, {-128, 127}, {-3.5f, infinity}, 12.75, 77, qlib::magnitude_histogram{}};
  c.operands[0].histogram->below = 5;
  c.operands[0].histogram->negative[3] = std::uint64_t{1} << 40;
  c.operands[0].histogram->positive.back() = 9;
  c.operands[2].scales = {2.0f};
  const auto stream = rotation_of(24, 12, 7), heads = rotation_of(16, 0, std::nullopt);
  c.folds.matrices["model.layers.0.q_proj"] = {qlib::scaling{{1.5f, 0.25f}, {}}, qlib::rotation{stream}, qlib::scaling{{}, {3.0f}}};
  c.folds.matrices["model.layers.0.v_proj"] = {qlib::rotation{stream}, qlib::rotation{heads, true, {{0, 16}, {32, 16}}}};
  c.folds.matrices["model.layers.0.o_proj"] = {qlib::scaling{{2.0f}, {}}, qlib::clipping{qlib::tile::per_group(32), {0, 9, 3, 1}}};
  c.folds.matrices["nothing"] = {};
  c.folds.vectors["model.norm.weight"] = {1.0f, std::numeric_limits<float>::denorm_min()};
  c.folds.vectors["empty"] = {};
  c.suppressions.push_back(
      {"model.layers.0.norm", "norm-linear", "iter_smooth", 1e-9, 2e-300, true, 3, true, 4, {1, 5}, 0.5f, 8.0f, 100, 7, 1e-3, 5e-4});
  c.suppressions.emplace_back();
  c.samples = 8;
  c.tokens = std::size_t{1} << 33;
  c.products = "bf16 (oneDNN)";
  c.warnings = {"", "model.layers.0.mlp: …"};
  c.floats = {"model.layers.0.mlp.down_proj"};
  return c;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// What a rotation does to the unit matrix is all that it does.
std::vector<float> matrix_of(const qlib::hadamard_rotation& r) {
  std::vector<float> m(r.size() * r.size());
  for (std::size_t i = 0; i < r.size(); ++i) m[i * r.size() + i] = 1;
  r.rows({m.data(), r.size(), r.size()});
  return m;
}

void check_same(const qlib::fold_step& a, const qlib::fold_step& b) {
  REQUIRE(a.index() == b.index());
  if (const auto* s = std::get_if<qlib::scaling>(&a)) {
    CHECK(same_bits(s->columns, std::get<qlib::scaling>(b).columns));
    CHECK(same_bits(s->rows, std::get<qlib::scaling>(b).rows));
    return;
  }
  if (const auto* c = std::get_if<qlib::clipping>(&a)) {
    CHECK(c->shape == std::get<qlib::clipping>(b).shape);
    CHECK(c->steps == std::get<qlib::clipping>(b).steps);
    return;
  }
  const auto &x = std::get<qlib::rotation>(a), &y = std::get<qlib::rotation>(b);
  CHECK(x.outputs == y.outputs);
  CHECK(x.runs == y.runs);
  CHECK(x.by->block_size() == y.by->block_size());
  CHECK(same_bits(matrix_of(*x.by), matrix_of(*y.by)));
}

void check_same(const qlib::calibration& a, const qlib::calibration& b) {
  REQUIRE(a.operands.size() == b.operands.size());
  for (std::size_t i = 0; i < a.operands.size(); ++i) {
    const auto &x = a.operands[i], &y = b.operands[i];
    CHECK(same_bits(x.scales, y.scales));
    CHECK(x.zero_points == y.zero_points);
    CHECK(same_bits(x.seen, y.seen));
    CHECK(same_bits(x.range_score, y.range_score));
    CHECK(x.tokens == y.tokens);
    REQUIRE(x.histogram.has_value() == y.histogram.has_value());
    if (x.histogram) CHECK(same_bits(*x.histogram, *y.histogram));
  }
  REQUIRE(a.folds.matrices.size() == b.folds.matrices.size());
  for (const auto& [name, steps] : a.folds.matrices) {
    REQUIRE(b.folds.matrices.contains(name));
    const auto others = b.folds.steps(name);
    REQUIRE(steps.size() == others.size());
    for (std::size_t i = 0; i < steps.size(); ++i) check_same(steps[i], others[i]);
  }
  REQUIRE(a.folds.vectors.size() == b.folds.vectors.size());
  for (const auto& [name, values] : a.folds.vectors) {
    REQUIRE(b.folds.vector(name) != nullptr);
    CHECK(same_bits(values, *b.folds.vector(name)));
  }
  REQUIRE(a.suppressions.size() == b.suppressions.size());
  for (std::size_t i = 0; i < a.suppressions.size(); ++i) {
    const auto &x = a.suppressions[i], &y = b.suppressions[i];
    CHECK(std::tie(x.source, x.kind, x.suppressor, x.kept, x.dead, x.unseen, x.limited, x.limited_channels) ==
          std::tie(y.source, y.kind, y.suppressor, y.kept, y.dead, y.unseen, y.limited, y.limited_channels));
    CHECK(std::tie(x.tiles, x.clipped, x.clip_error_before, x.clip_error_after) ==
          std::tie(y.tiles, y.clipped, y.clip_error_before, y.clip_error_after));
    CHECK(same_bits(x.error_before, y.error_before));
    CHECK(same_bits(x.error_after, y.error_after));
    CHECK(same_bits(x.smallest, y.smallest));
    CHECK(same_bits(x.largest, y.largest));
  }
  CHECK(std::tie(a.samples, a.tokens, a.products, a.warnings, a.floats) == std::tie(b.samples, b.tokens, b.products, b.warnings, b.floats));
}

std::optional<qlib::calibration> load(const std::string& path, std::uint64_t with = key) {
  auto r = qlib::load_calibration(path, with);
  REQUIRE_MESSAGE(r, (r ? "" : r.error().text()));
  return *std::move(r);
}

/// `body` behind the checksum that belongs to it: only the reader's own checks are left.
std::string with_checksum(std::string body) {
  const std::uint64_t sum = qlib::checksum_of(as_bytes(body));
  body.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  return body;
}

}  // namespace

TEST_CASE("what calibration found comes back from its file bit by bit") {
  temporary_folder folder;
  const std::string path = folder.path("found");
  for (const qlib::calibration& c : {everything(), qlib::calibration{}}) {
    const qlib::status stored = qlib::store_calibration(c, key, path);
    REQUIRE_MESSAGE(stored, (stored ? "" : stored.error().text()));
    CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
    const auto loaded = load(path);
    REQUIRE(loaded);
    check_same(c, *loaded);
  }
}

TEST_CASE("a stored calibration of more than one block of writing comes back") {
  temporary_folder folder;
  qlib::calibration c = everything();
  std::vector<float>& many = c.folds.vectors["many"];
  for (std::uint32_t i = 0; i < 1000001; ++i) many.push_back(std::bit_cast<float>(i * 2654435761u));
  REQUIRE(qlib::store_calibration(c, key, folder.path("found")));
  const auto loaded = load(folder.path("found"));
  REQUIRE(loaded);
  check_same(c, *loaded);
}

TEST_CASE("rotations that are described alike are one object after loading") {
  temporary_folder folder;
  qlib::calibration c;
  for (const char* name : {"a", "b"}) c.folds.matrices[name] = {qlib::rotation{rotation_of(16, 16, 1)}};
  REQUIRE(qlib::store_calibration(c, key, folder.path("found")));
  const auto loaded = load(folder.path("found"));
  REQUIRE(loaded);
  CHECK(std::get<qlib::rotation>(loaded->folds.steps("a")[0]).by == std::get<qlib::rotation>(loaded->folds.steps("b")[0]).by);
}

TEST_CASE("no file, another key, another layout and other files are no stored calibration") {
  temporary_folder folder;
  const std::string path = folder.path("found");
  CHECK_FALSE(load(path));
  CHECK_FALSE(load(path + "/below"));
  REQUIRE(qlib::store_calibration(everything(), key, path));
  CHECK_FALSE(load(path, key + 1));
  std::string text = folder.read("found");
  text.resize(text.size() - 8);
  REQUIRE(load(folder.write("same", with_checksum(text))));
  ++text[8];
  CHECK_FALSE(load(folder.write("version", with_checksum(text))));
  CHECK_FALSE(load(folder.write("empty", "")));
  CHECK_FALSE(load(folder.write("zeros", std::string(4096, '\0'))));
  CHECK_FALSE(qlib::load_calibration(folder.path(), key));  // a folder cannot be read
}

TEST_CASE("a stored calibration that is cut or damaged anywhere is none, also behind a checksum that fits, and reading it is safe" *
          doctest::test_suite("long")) {
  temporary_folder folder;
  REQUIRE(qlib::store_calibration(everything(), key, folder.path("found")));
  const std::string whole = folder.read("found"), body = whole.substr(0, whole.size() - 8);
  const auto found_in = [&](const std::string& text) { return load(folder.write("damaged", text)).has_value(); };
  std::size_t accepted = 0, taken = 0;
  for (std::size_t n = 0; n < whole.size(); ++n) accepted += found_in(whole.substr(0, n));
  for (std::size_t n = 0; n < body.size(); ++n) accepted += found_in(with_checksum(body.substr(0, n)));
  accepted += found_in(whole + '\0');
  accepted += found_in(with_checksum(body + '\0'));
  for (std::size_t at = 0; at < whole.size(); ++at)
    for (const int flipped : {0x01, 0x80, 0xff}) {
      std::string text = whole;
      text[at] = static_cast<char>(text[at] ^ flipped);
      accepted += found_in(text);
      if (at >= body.size()) continue;
      text.resize(body.size());
      taken += found_in(with_checksum(text));  // may be a value, another one
    }
  CHECK(accepted == 0);
  CHECK(taken > 0);
  // Counts that ask for everything.
  for (std::size_t at = 20; at + 8 <= body.size(); ++at) {
    std::string text = body;
    std::memset(text.data() + at, 0xff, 8);
    (void)found_in(with_checksum(text));
  }
}

TEST_CASE("a stored calibration belongs to a plan, samples in their order, and every option that changes results") {
  qlib::quantization_plan plan;
  plan.fingerprint = 1;
  const std::vector<std::vector<std::int32_t>> samples{{1, 2}, {3}}, moved{{1}, {2, 3}};
  const qlib::calibrate_options usual;
  std::vector<std::uint64_t> keys{qlib::calibration_key(plan, samples, usual, false)};
  CHECK(keys[0] == qlib::calibration_key(plan, samples, usual, false, 0));
  keys.push_back(qlib::calibration_key(plan, moved, usual, false));
  keys.push_back(qlib::calibration_key(plan, samples, usual, true));
  keys.push_back(qlib::calibration_key(plan, samples, usual, false, 1));
  const auto with = [&](auto&& change) {
    qlib::calibrate_options o;
    change(o);
    keys.push_back(qlib::calibration_key(plan, samples, o, false));
  };
  const std::vector<std::vector<std::int32_t>> others{{4}};
  with([&](auto& o) { o.suppress_samples = others; });
  with([](auto& o) { o.few_tokens = 17; });
  with([](auto& o) { o.histograms = true; });
  with([](auto& o) { o.range_scores = false; });
  with([](auto& o) { o.suppress.search_tokens = 2; });
  with([](auto& o) { o.suppress.weight_bytes = 2; });
  with([](auto& o) { o.suppress.as_peers = true; });
  qlib::quantization_plan other = plan;
  other.fingerprint = 2;
  keys.push_back(qlib::calibration_key(other, samples, usual, false));
  other = plan;
  other.follow = qlib::compat::llmcompressor;
  keys.push_back(qlib::calibration_key(other, samples, usual, false));
  std::sort(keys.begin(), keys.end());
  CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
}

TEST_CASE("a calibration that cannot be stored says where") {
  temporary_folder folder;
  const qlib::status s = qlib::store_calibration(everything(), key, folder.path("none") + "/found");
  REQUIRE_FALSE(s);
  CHECK(s.error().text().find("none/found") != std::string::npos);
}
