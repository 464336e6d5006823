/// Whole-checkpoint W8A8_DYNAMIC conversion against its own bound, in one process and in turn:
///   quantize  the same plan, output thrown away in memory
///   write     the output's bytes written to new files, 4 MiB a call, nothing else
///   convert   run_plan, page-cached source, new output
/// share = (quantize + write) / convert. Both write and convert return when the bytes are on the disk, or with --cached when the operating system has
/// them. Usage: conversion_bench DIR [--layers N] [--threads N] [--rounds N] [--cached]
#include "synthetic_llama.hpp"

#include <qlib/core/stopwatch.hpp>
#include <qlib/pipeline/plan.hpp>
#include <qlib/pipeline/run.hpp>
#include <qlib/recipe/flags.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace {

template <class F>
double seconds_of(F&& f) {
  const qlib::stopwatch start;
  f();
  return start.seconds();
}

void write_files(const qlib::quantization_plan& plan, const std::string& folder, bool sync) {
  std::filesystem::create_directories(folder);
  std::vector<char> block(4 << 20, 1);
  for (const qlib::planned_file& f : plan.files) {
    const int fd = open((folder + "/" + f.name).c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644);
    for (std::uint64_t at = 0; at < f.bytes;) {
      const ssize_t n = write(fd, block.data(), std::min<std::uint64_t>(block.size(), f.bytes - at));
      if (n <= 0) std::abort();
      at += static_cast<std::uint64_t>(n);
    }
    if (sync && fdatasync(fd) != 0) std::abort();
    close(fd);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder = "conversion_bench";
  std::size_t layers = 22, threads = 1, rounds = 5;
  bool sync = true;
  for (int i = 1; i < argc; ++i) {
    const auto value = [&](const char* flag) { return std::strcmp(argv[i], flag) == 0 && i + 1 < argc; };
    if (value("--layers")) layers = std::strtoul(argv[++i], nullptr, 10);
    else if (value("--threads")) threads = std::strtoul(argv[++i], nullptr, 10);
    else if (value("--rounds")) rounds = std::strtoul(argv[++i], nullptr, 10);
    else if (std::strcmp(argv[i], "--cached") == 0) sync = false;
    else folder = argv[i];
  }
  const std::string model = folder + "/model-" + std::to_string(layers), target = folder + "/out";
  if (!std::filesystem::exists(model + "/config.json")) qlib::bench::write_synthetic_llama(model, {.layers = layers});

  qlib::checkpoint source;
  qlib::model_layout layout;
  qlib::recipe recipe;
  qlib::quantization_plan plan;
  for (const qlib::errors& found :
       {qlib::checkpoint::open(model, source), qlib::read_model_layout(source, layout),
        qlib::recipe_from_flags({.quant_type = "w8a8_dynamic"}, recipe), qlib::make_plan(source, layout, recipe, {}, plan)})
    for (const qlib::error& e : found) return std::fprintf(stderr, "%s\n", e.text().c_str()), 2;

  const auto convert = [&](bool keep) {
    qlib::run_options options{.save_path = target, .threads = threads};
    options.discard_output = !keep;
    options.sync = sync;
    if (auto done = qlib::run_plan(source, plan, options); !done) std::fprintf(stderr, "%s\n", done.error().text().c_str()), std::exit(1);
  };
  std::vector<double> shares;
  for (std::size_t round = 0; round <= rounds; ++round) {  // the first warms the page cache
    std::filesystem::remove_all(target);
    const double quantize = seconds_of([&] { convert(false); });
    const double write = seconds_of([&] { write_files(plan, target, sync); });
    std::filesystem::remove_all(target);
    const double whole = seconds_of([&] { convert(true); });
    if (round == 0) continue;
    shares.push_back((quantize + write) / whole);
    std::printf("quantize %.3f s  write %.3f s  convert %.3f s  share %.3f\n", quantize, write, whole, shares.back());
  }
  std::filesystem::remove_all(target);
  std::sort(shares.begin(), shares.end());
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("%.2f GB, %zu thread(s), %s: share %.3f of (quantize + write), median of %zu; peak RSS %.0f MB\n",
              static_cast<double>(plan.input_bytes) / 1e9, threads, sync ? "on the disk" : "in the page cache", shares[shares.size() / 2],
              shares.size(), static_cast<double>(usage.ru_maxrss) / 1024);
}
