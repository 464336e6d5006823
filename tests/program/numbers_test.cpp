/// A number of a flag is what it says, or it is refused by its name before anything is read.
#include "run_program.hpp"

#include <utility>

using namespace qlib_test;

namespace {

using words = std::vector<std::string>;

const std::string model = QLIB_SOURCE_DIR "/examples/tiny_llama";

words command(const std::string& name, const std::string& out) {
  if (name == "eval") return {"eval", "--model_path", model, "--ids", model + "/eval_ids.safetensors", "--samples", "1", "--length", "4"};
  words all{name, "--model_path", model, "--quant_type", name == "quant" ? "w4a16" : "w8a8_dynamic"};
  if (name == "quant") all.insert(all.end(), {"--save_path", out});
  return all;
}

}  // namespace

TEST_CASE("a number of a flag that is none, is not finite, is out of range or does not fit is refused, and nothing is written") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  struct row {
    const char *command, *flag;
    words values;
  };
  const std::vector<row> rows{
      {"quant", "--seed", {"-1", "nan", "1.5", "18446744073709551616", "0x10", "8x", ""}},
      {"quant", "--part_file_size", {"nan", "-nan", "inf", "-inf", "-1", "1e400", "8x", "0x1p3", "2000000GiB"}},
      {"quant", "--group_size", {"0", "-1", "nan", "1e400", "99999999999999999999", "64x"}},
      {"quant",
       "--max_memory",
       {"0", "0GB", "-1", "-8GiB", "nan", "inf", "99999999999999999999", "GB", "8 potatoes", "1e400", "1.2.3MB", ".", "8iB", "8Kii", "99999999TiB",
        "0.4"}},
      {"quant", "--calib_samples", {"0", "-3", "nan", "8x"}},
      {"quant", "--calib_length", {"0", "-1", "1e400"}},
      {"quant", "--fraction", {"nan", "inf", "-0.5", "1.5", "1e400", "8x"}},
      {"quant", "--w_bit", {"0", "-4", "4.0", "nan", "4294967300"}},
      {"quant", "--a_bit", {"0", "-8"}},
      {"quant", "--act_method", {"0", "4", "-1"}},
      {"quant", "--threads", {"-1", "nan", "1025", "0x2", "8x", "1e400"}},
      {"quant", "--percentile", {"nan", "inf", "1e400", "99x"}},
      {"quant", "--disable_level", {"L-1", "L", "L99999999999999999999", "Lnan"}},
      {"plan", "--group_size", {"0"}},
      {"analyze", "--analyze_tokens", {"0", "-1", "nan"}},
      {"analyze", "--keep", {"0", "-1"}},
      {"analyze", "--budget", {"0", "-1MB", "nan"}},
      {"eval", "--samples", {"0", "-1", "nan"}},
      {"eval", "--length", {"0", "-1"}},
      {"eval", "--threads", {"-1", "inf"}},
  };
  for (const row& r : rows)
    for (const std::string& value : r.values) {
      words all = command(r.command, out);
      for (std::size_t at; (at = static_cast<std::size_t>(std::find(all.begin(), all.end(), r.flag) - all.begin())) < all.size();)
        all.erase(all.begin() + static_cast<std::ptrdiff_t>(at), all.begin() + static_cast<std::ptrdiff_t>(at) + 2);
      all.insert(all.end(), {std::string{r.flag} + "=" + value});
      CAPTURE(r.command);
      CAPTURE(all.back());
      check_refused(folder.path(), all, {{r.flag}});
    }
}

TEST_CASE("numbers at the ends of their ranges are taken") {
  temporary_folder folder;
  for (const words& flags : std::vector<words>{{"--seed", "0"},
                                               {"--seed", "18446744073709551615"},
                                               {"--part_file_size", "0"},
                                               {"--part_file_size", "0.001"},
                                               {"--group_size", "32"},
                                               {"--max_memory", "1TB"},
                                               {"--threads", "0"},
                                               {"--fraction", "0.01"},
                                               {"--w_bit", "4"}}) {
    words all = command("quant", folder.path("out"));
    all.insert(all.end(), flags.begin(), flags.end());
    all.push_back("--dry_run");
    const program_result r = run_program(all);
    CHECK_MESSAGE(r.exit_code == 0, r.err);
  }
}

TEST_CASE("a size is a number with or without a fraction, in powers of 1000 or of 1024") {
  temporary_folder folder;
  const std::string out = folder.path("out");
  const auto told = [&](const std::string& size) {
    const program_result r = run_program({"quant", "--model_path", model, "--save_path", out, "--quant_type", "w8a16", "--max_memory", size});
    CHECK(r.exit_code == 2);
    CHECK_MESSAGE(r.err.find("is too little for this model: give at least ") != std::string::npos, r.err);
    return r.err.substr(0, r.err.find(" is too little"));
  };
  for (const auto& [size, means] : std::vector<std::pair<std::string, std::string>>{{"1500000", "1.50 MB"},
                                                                                    {"1.5MB", "1.50 MB"},
                                                                                    {"1.5 mb", "1.50 MB"},
                                                                                    {"0.0015G", "1.50 MB"},
                                                                                    {"1500k", "1.50 MB"},
                                                                                    {"0.5MiB", "524.29 kB"},
                                                                                    {"512Ki", "524.29 kB"},
                                                                                    {"0.001GiB", "1.07 MB"}}) {
    CAPTURE(size);
    CHECK(told(size) == "qlib: error: --max_memory " + means + ":");
  }
  // What an error tells to give is enough.
  const std::string all = run_program({"quant", "--model_path", model, "--save_path", out, "--quant_type", "w8a16", "--max_memory", "1MB"}).err;
  const std::size_t at = all.find("give at least ") + 14;
  const std::string enough = all.substr(at, all.find(',', at) - at);
  const program_result r = run_program({"quant", "--model_path", model, "--save_path", out, "--quant_type", "w8a16", "--max_memory", enough});
  CHECK_MESSAGE(r.exit_code == 0, enough << ": " << r.err);
  std::filesystem::remove_all(out);
  for (const char* part : {"3MB", "0.0028GiB", "0.0028"}) {
    CAPTURE(part);
    CHECK(run_program({"quant", "--model_path", model, "--save_path", out, "--quant_type", "w8a16", "--part_file_size", part}).exit_code == 0);
    std::size_t files = 0;
    for (const auto& f : std::filesystem::directory_iterator{out}) files += f.path().extension() == ".safetensors";
    CHECK(files > 1);
    std::filesystem::remove_all(out);
  }
}
