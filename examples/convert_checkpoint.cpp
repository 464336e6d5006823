// The program `qlib quant` in one page: a Hugging Face checkpoint in, a quantized one out.
//   convert_checkpoint SOURCE TARGET
#include <qlib/pipeline/run.hpp>
#include <qlib/recipe/flags.hpp>

#include <algorithm>
#include <cstdio>
#include <thread>

static int report(const qlib::errors& found) {
  for (const qlib::error& e : found) std::fprintf(stderr, "%s\n", e.text().c_str());
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: %s SOURCE TARGET\n", argv[0]), 2;

  qlib::quant_flags flags;
  flags.quant_type = "w8a8_dynamic";
  qlib::recipe recipe;
  if (auto e = recipe_from_flags(flags, recipe); !e.empty()) return report(e);

  qlib::checkpoint source;
  qlib::model_layout layout;
  qlib::quantization_plan plan;  // every tensor of the output, before a weight is read
  if (auto e = qlib::checkpoint::open(argv[1], source); !e.empty()) return report(e);
  if (auto e = read_model_layout(source, layout); !e.empty()) return report(e);
  if (auto e = make_plan(source, layout, recipe, {}, plan); !e.empty()) return report(e);

  qlib::run_options options;
  options.save_path = argv[2];
  options.overwrite = true;
  options.threads = std::max(1u, std::thread::hardware_concurrency());
  options.copied_files.assign(source.other_files().begin(), source.other_files().end());
  options.measure_error = true;
  if (auto e = check_target(plan, options); !e.empty()) return report(e);
  const auto done = run_plan(source, plan, options);
  if (!done) return report({done.error()});

  double worst = 1;
  for (const qlib::layer_report& layer : done->layers) worst = std::min(worst, layer.error.cosine);
  std::printf("%zu layers quantized, %.1f -> %.1f MB, least cosine %.6f\n", plan.quantized, static_cast<double>(plan.input_bytes) / 1e6,
              static_cast<double>(plan.output_bytes) / 1e6, worst);
}
