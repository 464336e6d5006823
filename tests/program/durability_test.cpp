/// What the program calls done is on the disk, and what may have been lost is made again.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

using namespace qlib_test;

// A sanitizer's own library must be the first that is loaded.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {

/// A variable of the environment for the programs that are started.
class environment_variable {
 public:
  environment_variable(const char* name, const std::string& value) : name_{name} { ::setenv(name, value.c_str(), 1); }
  environment_variable(const environment_variable&) = delete;
  environment_variable& operator=(const environment_variable&) = delete;
  ~environment_variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

const std::string faults = QLIB_DISK_FAULTS;

std::vector<std::string> quant(const std::string& model, const std::string& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", out, "--quant_type", "w8a16"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace

TEST_CASE("every file, the folder, and the folder above are on the disk before a run says that it is done") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors()), out = folder.path("out"), work = out + ".qlib-partial";
  folder.write("model/tokenizer.json", "{}");
  {
    const environment_variable preload{"LD_PRELOAD", faults}, log{"QLIB_DISK_LOG", folder.path("log")};
    const program_result r = run_program(quant(model, out));
    REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  }
  const std::vector<std::string> log = lines_of(folder.read("log"));
  const auto place = [&](const std::string& line) { return std::find(log.begin(), log.end(), line) - log.begin(); };
  const auto renamed = place("rename " + work + " " + out);
  REQUIRE(renamed < static_cast<std::ptrdiff_t>(log.size()));
  std::size_t files = 0;
  for (const auto& [name, content] : tree_of(out)) {
    CHECK_MESSAGE(place("sync " + work + "/" + name) < renamed, name);
    ++files;
  }
  CHECK(files >= 6);
  CHECK(place("sync " + work) < renamed);
  const auto above = std::find(log.begin() + renamed, log.end(), "sync " + folder.path());
  CHECK(above != log.end());
}

TEST_CASE("a disk that turns out to be full when it is synced fails the run, and --resume makes all of it again") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors()), out = folder.path("out");
  REQUIRE(run_program(quant(model, out)).exit_code == 0);
  const auto undisturbed = tree_of(out);
  for (const char* file : {".safetensors", "quant_model_description.json"}) {
    CAPTURE(file);
    std::filesystem::remove_all(out);
    program_result failed;
    {
      const environment_variable preload{"LD_PRELOAD", faults}, fails{"QLIB_SYNC_FAILS", file};
      failed = run_program(quant(model, out));
    }
    CHECK(failed.exit_code == 1);
    REQUIRE(failed.error_lines().size() == 1);
    CHECK_MESSAGE(failed.err.find("No space left on device: free space and rerun with --resume") != std::string::npos, failed.err);
    CHECK(failed.err.find(file) != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(out));
    // What the disk did not take may be anything.
    if (file[0] == '.')
      for (const auto& entry : std::filesystem::directory_iterator{out + ".qlib-partial"})
        if (entry.path().extension() == ".safetensors") std::ofstream{entry.path(), std::ios::binary} << std::string(entry.file_size(), '\0');
    const program_result resumed = run_program(quant(model, out, {"--resume"}));
    REQUIRE_MESSAGE(resumed.exit_code == 0, resumed.err);
    CHECK(difference(undisturbed, tree_of(out)) == "");
  }
}

TEST_CASE("--resume after a power failure trusts no chunk that the machine may not have written to the disk") {
  temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors()), out = folder.path("out"), work = out + ".qlib-partial";
  REQUIRE(run_program(quant(model, out)).exit_code == 0);
  const auto undisturbed = tree_of(out);
  std::filesystem::remove_all(out);
  {  // All chunks are made and in the journal, which syncing a document then does not touch.
    const environment_variable preload{"LD_PRELOAD", faults}, fails{"QLIB_SYNC_FAILS", "config.json"};
    REQUIRE(run_program(quant(model, out)).exit_code == 1);
  }
  REQUIRE(bytes_of(work + "/.qlib-journal").size() > 200);
  for (const auto& entry : std::filesystem::directory_iterator{work})
    if (entry.path().extension() == ".safetensors") std::ofstream{entry.path(), std::ios::binary} << std::string(entry.file_size(), '\0');
  folder.write("out.qlib-partial/.qlib-boot", "another boot of this machine");
  const program_result resumed = run_program(quant(model, out, {"--resume"}));
  REQUIRE_MESSAGE(resumed.exit_code == 0, resumed.err);
  CHECK(difference(undisturbed, tree_of(out)) == "");
}

#endif
