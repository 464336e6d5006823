/// Every way in which an input can be wrong ends with exit code 2, an error line that names it, and nothing on disk.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

using namespace qlib_test;

namespace {

/// A folder with a good model in it, which each test breaks in one way.
struct broken_model {
  temporary_folder folder;
  std::vector<tensor_bytes> tensors = llama_tensors();
  std::string model = write_model(folder, "model", tensors);
  std::string out = folder.path("out");

  tensor_bytes& tensor(const std::string& name) {
    return *std::find_if(tensors.begin(), tensors.end(), [&](const tensor_bytes& t) { return t.name == name; });
  }
  void rewrite() const { folder.write("model/model.safetensors", safetensors_bytes(tensors)); }

  std::vector<std::string> quant(const std::vector<std::string>& more = {"--quant_type", "w8a8_dynamic"}) const {
    std::vector<std::string> words{"quant", "--model_path", model, "--save_path", out};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void check_refused(const std::vector<std::vector<std::string>>& errors) const { qlib_test::check_refused(folder.path(), quant(), errors); }
  void check_refused(const std::vector<std::string>& flags, const std::vector<std::vector<std::string>>& errors) const {
    qlib_test::check_refused(folder.path(), quant(flags), errors);
  }
};

const std::string a_name = "model.layers.1.mlp.up_proj.weight";

/// A file of two U8 tensors with these entries and `data` bytes.
std::string two_tensors(const std::string& first, const std::string& second, std::size_t data) {
  return with_length("{" + first + "," + second + "}") + std::string(data, '\1');
}
const tensor_bytes a{"a", "U8", {4}, {}}, b{"b", "U8", {4}, {}};

}  // namespace

TEST_CASE("the model that the other tests break is quantized") {
  const broken_model m;
  const program_result result = run_program(m.quant());
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK(std::filesystem::exists(m.out + "/quant_model_description.json"));
  CHECK_FALSE(std::filesystem::exists(m.out + ".qlib-partial"));
}

TEST_CASE("a truncated file is refused") {
  const broken_model m;
  const std::string whole = m.folder.read("model/model.safetensors");
  m.folder.write("model/model.safetensors", std::string_view{whole}.substr(0, whole.size() - 1));
  m.check_refused({{"model/model.safetensors", "cut short"}});
  m.folder.write("model/model.safetensors", std::string_view{whole}.substr(0, 100));
  m.check_refused({{"model/model.safetensors", "100 bytes"}});
  m.folder.write("model/model.safetensors", std::string_view{whole}.substr(0, 7));
  m.check_refused({{"model/model.safetensors", "7 bytes"}});
  m.folder.write("model/model.safetensors", "");
  m.check_refused({{"model/model.safetensors", "0 bytes"}});
}

TEST_CASE("a header that is longer than its file is refused") {
  const broken_model m;
  std::string whole = m.folder.read("model/model.safetensors");
  for (const std::uint64_t length : {std::uint64_t{whole.size() - 7}, std::uint64_t{99'999'999}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    CAPTURE(length);
    std::memcpy(whole.data(), &length, 8);
    m.folder.write("model/model.safetensors", whole);
    m.check_refused({{"model/model.safetensors", "header", std::to_string(length)}});
  }
}

TEST_CASE("a header that is no JSON is refused") {
  const broken_model m;
  for (const std::string header : {"", "not json", "[]", "{\"a\":", "{\"a\": 1}"}) {
    CAPTURE(header);
    m.folder.write("model/model.safetensors", with_length(header));
    m.check_refused({{"model/model.safetensors"}});
  }
}

TEST_CASE("offsets that overlap, leave a gap or run backwards are refused") {
  const broken_model m;
  m.folder.write("model/model.safetensors", two_tensors(header_entry(a, 0, 4), header_entry(b, 2, 6), 6));
  m.check_refused({{"model/model.safetensors", ": b: ", "overlap"}});
  m.folder.write("model/model.safetensors", two_tensors(header_entry(a, 0, 4), header_entry(b, 5, 9), 9));
  m.check_refused({{"model/model.safetensors", ": b: ", "[4, 5)"}});
  m.folder.write("model/model.safetensors", two_tensors(header_entry(a, 0, 4), header_entry(b, 8, 4), 8));
  m.check_refused({{"model/model.safetensors", ": b: ", "before they begin"}});
  m.folder.write("model/model.safetensors", two_tensors(header_entry(a, 0, 4), header_entry(b, 4, 7), 7));
  m.check_refused({{"model/model.safetensors", ": b: ", "needs 4 bytes"}});
}

TEST_CASE("an unknown dtype is refused with its name") {
  broken_model m;
  m.tensor(a_name).dtype = "BF17";
  m.rewrite();
  m.check_refused({{"model/model.safetensors", a_name, "BF17"}});
}

TEST_CASE("a tensor that a header names twice is refused") {
  broken_model m;
  m.tensors.push_back(m.tensor(a_name));
  m.rewrite();
  m.check_refused({{"model/model.safetensors", a_name, "more than once"}});
}

TEST_CASE("a tensor that two shards hold is refused") {
  broken_model m;
  std::filesystem::remove(m.model + "/model.safetensors");
  std::vector<std::pair<std::string, std::string>> map;
  for (const tensor_bytes& t : m.tensors) map.emplace_back(t.name, "one.safetensors");
  m.folder.write("model/one.safetensors", safetensors_bytes(m.tensors));
  m.folder.write("model/two.safetensors", safetensors_bytes({m.tensor(a_name), bf16_tensor("x", {2})}));
  map.emplace_back("x", "two.safetensors");
  m.folder.write("model/model.safetensors.index.json", index_bytes(map));
  m.check_refused({{"index.json", a_name, "one.safetensors", "two.safetensors"}});
}

TEST_CASE("an index that names a missing shard or a missing tensor is refused") {
  broken_model m;
  std::filesystem::remove(m.model + "/model.safetensors");
  std::vector<std::pair<std::string, std::string>> map;
  for (const tensor_bytes& t : m.tensors) map.emplace_back(t.name, "one.safetensors");
  m.folder.write("model/one.safetensors", safetensors_bytes(m.tensors));
  map.emplace_back("lost.weight", "two.safetensors");
  m.folder.write("model/model.safetensors.index.json", index_bytes(map));
  m.check_refused({{"index.json", "two.safetensors", "does not exist"}});
  map.back().second = "one.safetensors";
  m.folder.write("model/model.safetensors.index.json", index_bytes(map));
  m.check_refused({{"index.json", "lost.weight", "one.safetensors"}});
}

TEST_CASE("an index that leads out of the model directory is refused") {
  broken_model m;
  m.folder.write("outside.safetensors", safetensors_bytes(m.tensors));
  std::filesystem::remove(m.model + "/model.safetensors");
  std::vector<std::pair<std::string, std::string>> map;
  for (const tensor_bytes& t : m.tensors) map.emplace_back(t.name, "../outside.safetensors");
  m.folder.write("model/model.safetensors.index.json", index_bytes(map));
  m.check_refused({{"index.json", "../outside.safetensors"}});
}

TEST_CASE("a config.json that is missing or no JSON object is refused") {
  const broken_model m;
  for (const std::string text : {"{\"model_type\": \"llama\"", "", "[1]", "\"llama\"", "{}"}) {
    CAPTURE(text);
    m.folder.write("model/config.json", text);
    m.check_refused({{"model/config.json"}});
  }
  std::filesystem::remove(m.model + "/config.json");
  m.check_refused({{"model/config.json"}});
}

TEST_CASE("a model directory that does not exist, is a file or is empty is refused") {
  broken_model m;
  m.model = m.folder.path("nowhere");
  m.check_refused({{"nowhere"}});
  m.model = m.folder.path("model/config.json");
  m.check_refused({{"config.json"}});
  m.model = m.folder.path("empty");
  std::filesystem::create_directory(m.model);
  m.check_refused({{"config.json"}, {"empty", "model.safetensors"}});
}

TEST_CASE("an unknown model_type is quantized with a warning") {
  const broken_model m;
  m.folder.write("model/config.json", R"({"model_type": "brand_new"})");
  const program_result result = run_program(m.quant());
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK(result.err.find("qlib: warning: ") != std::string::npos);
  CHECK(result.err.find("brand_new") != std::string::npos);
  CHECK(result.err.find("qlib: error: ") == std::string::npos);
  CHECK(std::filesystem::exists(m.out + "/config.json"));
}

TEST_CASE("NaN and infinities in a weight are refused with file, tensor, row and column") {
  const struct {
    std::uint16_t bits;
    std::string name;
  } values[] = {{bf16_nan, "NaN"}, {bf16_infinity, "infinity"}, {bf16_minus_infinity, "-infinity"}};
  for (const auto& value : values) {
    CAPTURE(value.name);
    broken_model m;
    set_bf16(m.tensor(a_name), 95, 63, value.bits);
    m.rewrite();
    for (const char* type : {"w8a8_dynamic", "w8a16", "fp8_dynamic"})
      m.check_refused({"--quiet", "--quant_type", type}, {{"model/model.safetensors", a_name, "[95, 63]", value.name}});
    m.check_refused({"--quiet", "--quant_type", "w4a16", "--group_size", "32", "--format", "compressed_tensors"},
                    {{"model/model.safetensors", a_name, "[95, 63]", value.name}});
  }
}

TEST_CASE("a NaN beyond the first megabytes of a weight is found where it is") {
  temporary_folder folder;
  std::vector<tensor_bytes> tensors{bf16_tensor("model.layers.0.mlp.up_proj.weight", {5000, 1024})};
  set_bf16(tensors[0], 4711, 17, bf16_nan);
  const std::string model = write_model(folder, "model", tensors);
  check_refused(folder.path(), {"quant", "--quiet", "--model_path", model, "--save_path", folder.path("out"), "--quant_type", "w8a8_dynamic"},
                {{"model/model.safetensors", "model.layers.0.mlp.up_proj.weight", "[4711, 17]", "NaN"}});
}

TEST_CASE("a group size that does not divide the input features is refused for each layer that has it") {
  const broken_model m;  // down_proj has 96 input features, all others 64
  m.check_refused({"--quant_type", "w4a16", "--group_size", "64"},
                  {{"model.safetensors", "model.layers.0.mlp.down_proj.weight", "96", "group_size 64"},
                   {"model.safetensors", "model.layers.1.mlp.down_proj.weight", "96", "group_size 64"}});
}

TEST_CASE("a source that is already quantized is refused") {
  broken_model m;
  REQUIRE(run_program(m.quant({"--quant_type", "w8a8_dynamic", "--format", "compressed_tensors"})).exit_code == 0);
  m.model = m.out;
  m.out = m.folder.path("again");
  m.check_refused({{"config.json", "quantization_config", "already quantized"}});
  m.model = m.folder.path("model");
  m.out = m.folder.path("ascend");
  REQUIRE(run_program(m.quant()).exit_code == 0);
  m.model = m.out;
  m.out = m.folder.path("again");
  m.check_refused({{"ascend", "already quantized"}});
}

TEST_CASE("a save_path below a regular file is refused") {
  broken_model m;
  m.folder.write("file", "");
  m.out = m.folder.path("file/out");
  m.check_refused({{m.folder.path("file")}});
  m.out = m.folder.path("file");
  m.check_refused({{m.folder.path("file"), "not a directory"}});
}

TEST_CASE("a save_path that nobody may write to is refused") {
  if (::geteuid() == 0) return;  // root may
  broken_model m;
  std::filesystem::create_directory(m.folder.path("closed"));
  std::filesystem::permissions(m.folder.path("closed"), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  m.out = m.folder.path("closed/out");
  m.check_refused({{"closed", "not writable"}});
}

TEST_CASE("a save_path that is not empty is refused, an empty one is used, --overwrite replaces it") {
  const broken_model m;
  std::filesystem::create_directory(m.out);
  CHECK(run_program(m.quant()).exit_code == 0);
  const auto first = tree_of(m.out);
  m.folder.write("out/mine", "text");
  m.check_refused({{m.out, "not empty", "--overwrite"}});
  CHECK(m.folder.read("out/mine") == "text");
  CHECK(run_program(m.quant({"--quant_type", "w8a8_dynamic", "--overwrite"})).exit_code == 0);
  CHECK(difference(first, tree_of(m.out)) == "");
}

TEST_CASE("flags that contradict each other or do not exist are refused") {
  const broken_model m;
  const std::string recipe =
      m.folder.write("recipe.yaml", "default_stage:\n  default_modifiers:\n    QuantizationModifier:\n      targets: [Linear]\n      scheme: W8A8\n");
  m.check_refused({"--quant_type", "w8a8_dynamic", "--config_path", recipe}, {{"quant_type", "config_path"}});
  m.check_refused({"--config_path", recipe, "--group_size", "32"}, {{"--config_path", "--group_size"}});
  m.check_refused({"--quant_type", "w4a16", "--w_bit", "8"}, {{"w4a16", "--w_bit 8"}});
  m.check_refused({"--quant_type", "w8a16", "--is_dynamic"}, {{"w8a16", "--is_dynamic"}});
  m.check_refused({"--quant_type", "w8a8_dynamic", "--group_size", "32"}, {{"w8a8_dynamic", "--group_size 32"}});
  m.check_refused({"--quant_type", "w9a9"}, {{"--quant_type", "w9a9"}});
  m.check_refused({"--quant_type", "w8a8_dynamic", "--format", "zip"}, {{"--format", "zip"}});
  m.check_refused({"--quant_type", "w8a8_dynamic", "--compat", "nobody"}, {{"--compat", "nobody"}});
  m.check_refused({"--quant_type", "w8a8_dynamic", "--no_such_flag"}, {{"--no_such_flag"}});
  m.check_refused({"--quant_type", "w8a8_dynamic", "--threads", "many"}, {{"--threads", "many"}});
  m.check_refused({"--quant_type", "w8a8_dynamic", "--w_sym", "perhaps"}, {{"--w_sym", "perhaps"}});
  m.check_refused({"--quant_type", "w8a8_dynamic", "--ignore", "re:("}, {{"--ignore", "re:("}});
  m.check_refused(std::vector<std::string>{}, {{"--quant_type"}});
  check_refused(m.folder.path(), {"quant", "--quant_type", "w8a16"}, {{"--model_path"}});
  check_refused(m.folder.path(), {"quantise"}, {{"quantise"}});
  check_refused(m.folder.path(), {}, {{"subcommand"}});
}

TEST_CASE("a recipe that cannot be read is refused with its line") {
  const broken_model m;
  m.check_refused({"--config_path", m.folder.path("nowhere.yaml")}, {{"nowhere.yaml"}});
  m.folder.write("recipe.yaml", "default_stage:\n  default_modifiers:\n    QuantizationModifier:\n      targets: [Linear]\n      scheme: W9A9\n");
  m.check_refused({"--config_path", m.folder.path("recipe.yaml")}, {{"recipe.yaml:5", "W9A9"}});
}

TEST_CASE("all errors of a broken checkpoint and of the flags are listed in one run") {
  broken_model m;
  std::filesystem::remove(m.model + "/model.safetensors");
  tensor_bytes strange = bf16_tensor("strange", {2});
  strange.dtype = "BF17";
  const std::string second = safetensors_bytes({bf16_tensor("cut", {8})});
  m.folder.write("model/1.safetensors", safetensors_bytes({strange}));
  m.folder.write("model/2.safetensors", std::string_view{second}.substr(0, second.size() - 3));
  m.folder.write("model/3.safetensors", safetensors_bytes(m.tensors));
  m.folder.write("model/model.safetensors.index.json",
                 index_bytes({{"strange", "1.safetensors"}, {"cut", "2.safetensors"}, {"not.there", "3.safetensors"}, {"gone", "4.safetensors"}}));
  m.folder.write("model/config.json", "{");
  std::vector<std::vector<std::string>> errors{
      {"1.safetensors", "strange", "BF17"}, {"2.safetensors", "cut short"}, {"4.safetensors", "does not exist"},
      {"index.json", "not.there"},          {"model/config.json"},          {"--format", "zip"}};
  for (const tensor_bytes& t : m.tensors) errors.push_back({"3.safetensors", t.name, "index does not name it"});
  m.check_refused({"--quant_type", "w8a16", "--format", "zip"}, errors);
}
