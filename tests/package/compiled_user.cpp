// A user of qlib::compiled: every part that brings a library of its own is called once.
#include <qlib/pipeline/run.hpp>
#include <qlib/quantize.hpp>
#include <qlib/recipe/flags.hpp>
#include <qlib/recipe/match.hpp>
#include <qlib/recipe/yaml.hpp>

#include <cstdio>
#include <string>
#include <vector>

#if !defined(QLIB_COMPILED)
#error "qlib::compiled says so"
#endif

int main() {
  const float w[] = {0.5f, -1.0f, 0.25f, 127.0f};
  const auto q = qlib::quantize(qlib::matrix_view<const float>{w, 2, 2}, qlib::int8_per_channel{});  // the CPU's kernels
  if (!q || q->codes()(0, 1) != -127) return 1;

  qlib::recipe recipe;
  qlib::quant_flags flags;
  flags.quant_type = "w8a16";
  if (!recipe_from_flags(flags, recipe).empty() || recipe.stages.size() != 1) return 2;
  if (parse_recipe("not: [a, recipe", "x.yaml", recipe).empty()) return 3;  // YAML
  const std::vector<std::string> patterns{"re:.*mlp.*"};
  if (!qlib::pattern_set::compile(patterns, qlib::pattern_syntax::compressed_tensors, "here")) return 4;  // regular expressions

  qlib::checkpoint source;
  const qlib::errors found = qlib::checkpoint::open("/nonexistent", source);  // files and JSON
  if (found.empty()) return 5;
  std::printf("%s\n", found.front().text().c_str());
}
