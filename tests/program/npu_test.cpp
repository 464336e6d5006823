/// `--device npu` on the fake of Ascend's libraries (tests/fake_acl), as a user with devices runs it.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>
#include <qlib/backend/ascend/numeric_bounds.hpp>
#include <qlib/io/safetensors.hpp>

#include <cmath>
#include <cstdlib>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string model = QLIB_SOURCE_DIR "/examples/tiny_llama", ids = model + "/calib_ids.safetensors";
const std::string fakes = QLIB_FAKE_ACL_DIR;

/// The environment of the programs that a test starts.
class environment {
 public:
  environment(const std::string& variant, std::vector<std::pair<std::string, std::string>> more = {}) {
    more.emplace_back("QLIB_ACL_LIB_DIR", fakes + "/" + variant);
    for (const auto& [name, value] : more) {
      ::setenv(name.c_str(), value.c_str(), 1);
      names_.push_back(name);
    }
  }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;
  ~environment() {
    for (const std::string& name : names_) ::unsetenv(name.c_str());
  }

 private:
  std::vector<std::string> names_;
};

std::vector<std::string> quant(const std::string& out, const std::string& device, const std::string& type, std::vector<std::string> more = {}) {
  std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", out, "--quant_type", type, "--device", device};
  if (type == "w8a8")
    for (const char* w : {"--calib_ids", "", "--calib_samples", "2", "--calib_length", "16", "--reproducible"}) words.push_back(*w ? w : ids);
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// Names and shapes are the same, codes differ by at most 1 and as rarely as numeric_bounds.hpp says, and everything else not at all.
void check_close(const std::string& ours, const std::string& theirs, qlib::ascend::soc_family chip = qlib::ascend::soc_family::a2) {
  qlib::safetensors_file a, b;
  REQUIRE(qlib::safetensors_file::open(ours + "/quant_model_weights-00001-of-00001.safetensors", a).empty());
  REQUIRE(qlib::safetensors_file::open(theirs + "/quant_model_weights-00001-of-00001.safetensors", b).empty());
  REQUIRE(a.tensors().size() == b.tensors().size());
  std::size_t codes = 0, different = 0;
  for (const qlib::tensor_info& t : a.tensors()) {
    const qlib::tensor_info* other = b.find(t.name);
    REQUIRE_MESSAGE(other, t.name);
    CHECK(other->shape == t.shape);
    CHECK(other->dtype == t.dtype);
    const auto x = a.bytes(t), y = b.bytes(*other);
    if (t.dtype != qlib::dtype::i8) {
      // Sums of codes follow the codes.
      if (!t.name.ends_with(".quant_bias")) CHECK_MESSAGE(std::ranges::equal(x, y), t.name);
      continue;
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      const int d = static_cast<std::int8_t>(x[i]) - static_cast<std::int8_t>(y[i]);
      different += d != 0;
      if (std::abs(d) > 1) FAIL_CHECK(t.name << "[" << i << "] differs by " << d);
    }
    codes += x.size();
  }
  CHECK(static_cast<double>(different) <= qlib::ascend::bounds_of(chip, qlib::dtype::bf16).static_rate * static_cast<double>(codes));
}

}  // namespace

TEST_CASE("NPUs write what the CPU writes up to one code, and the same bytes for 1, 2 and 4 devices of one kind" * doctest::test_suite("long")) {
  temporary_folder folder;
  for (const std::string type : {"w8a8_dynamic", "w8a8"}) {
    const std::string cpu = folder.path(type + "_cpu");
    REQUIRE(run_program(quant(cpu, "cpu", type)).exit_code == 0);
    std::vector<std::string> of_chips;
    for (const std::string soc : {"Ascend910B3", "Ascend310P3"}) {
      // What a 310P makes of static codes is not published: the most that it may differ.
      const environment with{
          "new", {{"QLIB_FAKE_ACL_SOC", soc}, {"QLIB_FAKE_ACL_DEVICES", "4"}, {"QLIB_FAKE_ACL_STATIC", soc == "Ascend310P3" ? "f16" : "f32"}}};
      std::string first;
      for (const std::string device : {"npu", "npu:1,2", "npu:0,1,2,3"}) {
        CAPTURE(soc);
        CAPTURE(device);
        const std::string out = folder.path(type + soc + device);
        const program_result r = run_program(quant(out, device, type));
        REQUIRE_MESSAGE(r.exit_code == 0, r.err);
        if (first.empty()) {
          first = weights_of(out);
          check_close(out, cpu, qlib::ascend::family_of(soc, 0));
        } else {
          CHECK(weights_of(out) == first);
        }
      }
      of_chips.push_back(first);
    }
    CHECK(of_chips[0] != of_chips[1]);
  }
}

TEST_CASE("the report names the path that made each layer") {
  temporary_folder folder;
  const environment with{"new"};
  const program_result r = run_program(quant(folder.path("out"), "npu", "w8a8_dynamic", {"--json"}));
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  const json report = json::parse(r.out);
  for (const json& layer : report["layers"]) CHECK(layer["path"].get<std::string>().find("quantize: AscendQuantV3") != std::string::npos);
}

TEST_CASE("old libraries do the same work with the ops that they have") {
  temporary_folder folder;
  REQUIRE(run_program(quant(folder.path("cpu"), "cpu", "w8a8_dynamic")).exit_code == 0);
  const environment with{"old"};
  const program_result r = run_program(quant(folder.path("out"), "npu", "w8a8_dynamic"));
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  check_close(folder.path("out"), folder.path("cpu"));
}

TEST_CASE("the chunks of a device that is lost go to the others, and the bytes stay the same") {
  temporary_folder folder;
  {
    const environment with{"new", {{"QLIB_FAKE_ACL_DEVICES", "2"}}};
    REQUIRE(run_program(quant(folder.path("all"), "npu:0,1", "w8a8_dynamic")).exit_code == 0);
  }
  const environment with{"new", {{"QLIB_FAKE_ACL_DEVICES", "2"}, {"QLIB_FAKE_ACL_LOST", "1:9"}}};
  std::vector<std::string> words = quant(folder.path("left"), "npu:0,1", "w8a8_dynamic");
  std::erase(words, "--quiet");
  const program_result r = run_program(words);
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  CHECK(r.err.find("its work went to the others") != std::string::npos);
  CHECK(weights_of(folder.path("left")) == weights_of(folder.path("all")));
}

TEST_CASE("without a device left the run fails, and --resume finishes it to the same bytes") {
  temporary_folder folder;
  {
    const environment with{"new"};
    REQUIRE(run_program(quant(folder.path("whole"), "npu", "w8a8_dynamic")).exit_code == 0);
  }
  {
    const environment with{"new", {{"QLIB_FAKE_ACL_LOST", "0:40"}}};
    const program_result r = run_program(quant(folder.path("out"), "npu", "w8a8_dynamic"));
    CHECK(r.exit_code == 1);
    CHECK_MESSAGE(r.err.find("rerun with --resume") != std::string::npos, r.err);
    CHECK_FALSE(std::filesystem::exists(folder.path("out")));
  }
  const environment with{"new"};
  const program_result r = run_program(quant(folder.path("out"), "npu", "w8a8_dynamic", {"--resume"}));
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  CHECK(weights_of(folder.path("out")) == weights_of(folder.path("whole")));
}

TEST_CASE("whatever call of Ascend's functions fails, and however, the result is right or there is none" * doctest::test_suite("long")) {
  temporary_folder folder;
  REQUIRE(run_program(quant(folder.path("cpu"), "cpu", "w8a8_dynamic")).exit_code == 0);
  std::size_t n = 0;
  for (const char* code : {"207001", "507015", "161002", "361001", "507046", "500000"})
    for (const unsigned call : {3u, 40u, 300u, 900u}) {
      const environment with{"new", {{"QLIB_FAKE_ACL_FAIL", "*:" + std::to_string(call) + ":" + code}}};
      const std::string out = folder.path(std::to_string(n++));
      const program_result r = run_program(quant(out, "npu", "w8a8_dynamic"));
      CAPTURE(code);
      CAPTURE(call);
      CHECK_MESSAGE(r.exit_code >= 0, "ended by signal " << r.signal);
      if (r.exit_code == 0) check_close(out, folder.path("cpu"));
      else CHECK_FALSE(std::filesystem::exists(out));
    }
}

TEST_CASE("what is missing for a device is one clear line, and nothing is written") {
  temporary_folder folder;
  const auto check = [&](const std::string& device, std::string_view part) {
    const program_result r = run_program(quant(folder.path("out"), device, "w8a8_dynamic"));
    CHECK(r.exit_code == 2);
    CHECK(r.error_lines().size() == 1);
    CHECK_MESSAGE(r.err.find(part) != std::string::npos, r.err);
    CHECK_FALSE(std::filesystem::exists(folder.path("out")));
  };
  {
    const environment with{"nowhere"};
    check("npu", "no CANN");
  }
  {
    const environment with{"stub"};
    check("npu", "stub");
  }
  {
    const environment with{"no_driver"};
    check("npu", "driver");
  }
  {
    const environment with{"missing_symbol"};
    check("npu", "aclrtMemcpyAsync");
  }
  {
    const environment with{"new", {{"QLIB_FAKE_ACL_DEVICES", "2"}}};
    check("npu:2", "no device 2");
    check("npu:0,x", "npu:0,x");
    check("npu:0,0", "npu:0,0");
    check("gpu", "--device: gpu: is not a device: use cpu, cpu:<isa>, npu or npu:0,1,2,3");
    check("npus", "npus: is not a device");
    check("NPU:7", "no device 7");
  }
  {
    const environment with{"new", {{"ASCEND_RT_VISIBLE_DEVICES", "a,b"}}};
    check("npu", "ASCEND_RT_VISIBLE_DEVICES");
  }
}

TEST_CASE("npu may be written in capitals") {
  temporary_folder folder;
  const environment with{"new"};
  const program_result r = run_program(quant(folder.path("out"), "NPU:0", "w8a8_dynamic"));
  REQUIRE_MESSAGE(r.exit_code == 0, r.err);
  REQUIRE(run_program(quant(folder.path("same"), "npu", "w8a8_dynamic")).exit_code == 0);
  CHECK(weights_of(folder.path("out")) == weights_of(folder.path("same")));
  CHECK(run_program({"devices", "--selftest", "Npu"}).exit_code == 0);
}

TEST_CASE("the line of a host without NPUs says so once") {
  const environment with{"nowhere"};
  const program_result text = run_program({"devices"});
  REQUIRE(text.exit_code == 0);
  CHECK_MESSAGE(text.out.find("npu   not available: no CANN: ") != std::string::npos, text.out);
  const program_result listed = run_program({"devices", "--json"});
  CHECK(json::parse(listed.out)["npu"]["reason"].get<std::string>().find("no CANN: ") == 0);
}

TEST_CASE("devices and their self-test are told as text and as JSON") {
  const environment with{"new", {{"QLIB_FAKE_ACL_SOC", "Ascend310P3"}}};
  const program_result listed = run_program({"devices", "--json"});
  REQUIRE(listed.exit_code == 0);
  CHECK(json::parse(listed.out)["npu"]["devices"] == "Ascend310P3, 1 device");
  const program_result tested = run_program({"devices", "--selftest", "npu", "--json"});
  REQUIRE_MESSAGE(tested.exit_code == 0, tested.err);
  CHECK(json::parse(tested.out).at(0).at("soc") == "Ascend310P3");
  const program_result text = run_program({"devices", "--selftest", "npu:0"});
  CHECK(text.out.find("self-test: passed") != std::string::npos);
  CHECK(run_program({"devices", "--selftest", "cpu"}).exit_code == 2);
}
