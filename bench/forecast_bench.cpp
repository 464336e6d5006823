/// What `qlib plan` forecasts against what `qlib quant` takes, as a table: whole processes, random-weight models, page-cached sources.
///   forecast_bench DIR [--models NAME,...] [--recipes NAME,...] [--threads N,...] [--rounds N]
/// Models are made in DIR once and stay there. Time and memory are of the fastest of N runs, forecasts the median of N.
#include "synthetic_llama.hpp"

#include <qlib/core/stopwatch.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

struct model {
  std::string name;
  qlib::bench::llama_shape shape;
  std::size_t samples, length;
};
const std::vector<model> models{
    {"tiny", {.layers = 4, .hidden = 256, .intermediate = 768, .kv = 128, .vocab = 2048}, 16, 128},
    {"100M", {.layers = 12, .hidden = 768, .intermediate = 2048, .kv = 256, .vocab = 16000}, 16, 256},
    {"350M", {.layers = 24, .hidden = 1024, .intermediate = 2816, .kv = 256, .vocab = 32000}, 8, 256},
    {"1.1B", {}, 8, 256},
    {"MoE", {.layers = 8, .hidden = 1024, .intermediate = 384, .kv = 256, .vocab = 32000, .experts = 32, .top_k = 4}, 16, 256},
};

struct recipe {
  std::string name;
  std::vector<std::string> flags;
  bool calibrated;
};
const std::vector<recipe> recipes{
    {"w8a8_dynamic", {"--quant_type", "w8a8_dynamic"}, false},
    {"w8a8_dynamic quarot", {"--quant_type", "w8a8_dynamic", "--anti_method", "quarot"}, false},
    {"w8a8", {"--quant_type", "w8a8"}, true},
    {"w8a8 m1", {"--quant_type", "w8a8", "--anti_method", "m1"}, true},
    {"w8a8 m4", {"--quant_type", "w8a8", "--anti_method", "m4"}, true},
    {"w8a8 m6", {"--quant_type", "w8a8", "--anti_method", "m6"}, true},
    {"w8a8 quarot", {"--quant_type", "w8a8", "--anti_method", "quarot"}, true},
    {"w4a16 awq", {"--quant_type", "w4a16", "--group_size", "64", "--anti_method", "awq"}, true},
};

void write_ids(const std::string& path, const model& m) {
  std::vector<qlib::tensor_info> tensors{{"ids", qlib::dtype::i32, {m.samples, m.length}}};
  (void)qlib::assign_offsets(tensors);
  std::ofstream out{path, std::ios::binary};
  out << *qlib::serialize_safetensors_header(tensors, {});
  std::uint32_t state = 7;
  for (std::size_t i = 0; i < m.samples * m.length; ++i) {
    state = state * 1664525u + 1013904223u;
    const std::int32_t id = static_cast<std::int32_t>(state >> 8) % static_cast<std::int32_t>(m.shape.vocab);
    out.write(reinterpret_cast<const char*>(&id), sizeof id);
  }
}

struct run {
  bool done = false;
  double seconds = 0, megabytes = 0;
  std::string out;
};

run run_program(const std::vector<std::string>& words, const std::string& out) {
  std::vector<char*> argv;
  for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
  argv.push_back(nullptr);
  const qlib::stopwatch start;
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
    ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  rusage usage{};
  ::wait4(pid, &status, 0, &usage);
  run r;
  r.seconds = start.seconds();
  r.done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  r.megabytes = static_cast<double>(usage.ru_maxrss) * 1024e-6;
  std::ostringstream text;
  text << std::ifstream{out}.rdbuf();
  r.out = text.str();
  return r;
}

/// The number behind "key": in a document, which has one of it.
double number_of(const std::string& document, const std::string& key) {
  const std::size_t at = document.find("\"" + key + "\":");
  return at == document.npos ? 0 : std::strtod(document.c_str() + at + key.size() + 3, nullptr);
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream in{text};
  for (std::string w; std::getline(in, w, ',');) words.push_back(w);
  return words;
}

bool chosen(const std::vector<std::string>& list, const std::string& name) {
  return list.empty() || std::find(list.begin(), list.end(), name) != list.end();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

/// Of each field of /proc/cpuinfo that says what this is.
std::string cpu_name() {
  std::ifstream in{"/proc/cpuinfo"};
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown CPU";
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder = "forecast_bench";
  std::vector<std::string> wanted_models, wanted_recipes, threads{"1", "2"};
  std::size_t rounds = 3;
  for (int i = 1; i < argc; ++i) {
    const auto value = [&](const char* flag) { return std::strcmp(argv[i], flag) == 0 && i + 1 < argc; };
    if (value("--models")) wanted_models = words_of(argv[++i]);
    else if (value("--recipes")) wanted_recipes = words_of(argv[++i]);
    else if (value("--threads")) threads = words_of(argv[++i]);
    else if (value("--rounds")) rounds = std::max<std::size_t>(1, std::strtoul(argv[++i], nullptr, 10));
    else folder = argv[i];
  }
  const std::string program = std::filesystem::canonical("/proc/self/exe").parent_path() / "qlib", target = folder + "/out",
                    text = folder + "/stdout";
  std::printf(
      "%s\n\n| model | recipe | threads | forecast s | measured s | ratio | forecast MB | measured MB | ratio | plan s "
      "|\n|---|---|---|---|---|---|---|---|---|---|\n",
      cpu_name().c_str());
  for (const model& m : models) {
    if (!chosen(wanted_models, m.name)) continue;
    const std::string path = folder + "/" + m.name, ids = path + "/calib_ids.safetensors";
    if (!std::filesystem::exists(path + "/config.json")) {
      qlib::bench::write_synthetic_llama(path, m.shape);
      write_ids(ids, m);
    }
    for (const recipe& r : recipes) {
      if (!chosen(wanted_recipes, r.name)) continue;
      for (const std::string& t : threads) {
        std::vector<std::string> words{program, "quant", "--quiet", "--model_path", path, "--save_path", target, "--threads", t};
        words.insert(words.end(), r.flags.begin(), r.flags.end());
        if (r.calibrated) words.insert(words.end(), {"--calib_ids", ids});
        std::vector<std::string> plan = words;
        plan[1] = "plan";
        plan.push_back("--json");
        std::vector<double> seconds, bytes, planned, took, memory;
        for (std::size_t round = 0; round < rounds; ++round) {
          for (const char* end : {"", ".qlib-partial"}) std::filesystem::remove_all(target + end);  // also what a killed bench left
          const run forecast = run_program(plan, text), done = run_program(words, text);
          if (!forecast.done || !done.done) return std::fprintf(stderr, "%s, %s failed\n", m.name.c_str(), r.name.c_str()), 1;
          seconds.push_back(number_of(forecast.out, "seconds"));
          bytes.push_back(number_of(forecast.out, "peak_memory_bytes") * 1e-6);
          planned.push_back(forecast.seconds);
          took.push_back(done.seconds);
          memory.push_back(done.megabytes);
        }
        const double s = *std::min_element(took.begin(), took.end()), b = *std::max_element(memory.begin(), memory.end());
        std::printf("| %s | %s | %s | %.2f | %.2f | %.2f | %.0f | %.0f | %.2f | %.2f |\n", m.name.c_str(), r.name.c_str(), t.c_str(), median(seconds),
                    s, median(seconds) / s, median(bytes), b, median(bytes) / b, *std::min_element(planned.begin(), planned.end()));
        std::fflush(stdout);
      }
    }
    std::filesystem::remove_all(target);
  }
  std::filesystem::remove(text);
}
