/// `qlib quant --report` and `qlib report`, from outside; the page in a browser where there is one.
#include "checkpoint_bytes.hpp"
#include "run_program.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>

using namespace qlib_test;
using nlohmann::json;

namespace {

const std::string tiny_llama = QLIB_SOURCE_DIR "/examples/tiny_llama";

program_result quant(const std::string& model, const std::string& out, const std::vector<std::string>& more) {
  std::vector<std::string> words{"quant", "--quiet", "--model_path", model, "--save_path", out};
  words.insert(words.end(), more.begin(), more.end());
  const program_result result = run_program(words);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

/// Static W8A8 of the embedded model with few samples.
program_result calibrated(const std::string& out, const std::vector<std::string>& more) {
  std::vector<std::string> words{"--quant_type", "w8a8", "--calib_samples", "3", "--calib_length", "50", "--reproducible"};
  words.insert(words.end(), more.begin(), more.end());
  return quant(tiny_llama, out, words);
}

json parsed(const std::string& text) {
  json j = json::parse(text, nullptr, false);
  REQUIRE(j.is_object());
  return j;
}

double bf16_at(const std::string& bytes, std::size_t i) {
  std::uint32_t bits = 0;
  std::memcpy(reinterpret_cast<char*>(&bits) + 2, bytes.data() + i * 2, 2);
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return value;
}

/// Bytes of all tensors of each module in a folder's safetensors files.
std::map<std::string, std::uint64_t> module_bytes(const std::string& folder) {
  std::map<std::string, std::uint64_t> bytes;
  for (const auto& [name, content] : tree_of(folder)) {
    if (!name.ends_with(".safetensors") || content.size() < 8) continue;
    std::uint64_t length = 0;
    std::memcpy(&length, content.data(), 8);
    const json header = parsed(content.substr(8, length));
    for (const auto& [tensor, entry] : header.items())
      if (tensor != "__metadata__")
        bytes[tensor.substr(0, tensor.rfind('.'))] += entry["data_offsets"][1].get<std::uint64_t>() - entry["data_offsets"][0].get<std::uint64_t>();
  }
  return bytes;
}

std::string browser() {
  for (const char* name : {"chromium", "chromium-browser", "google-chrome"})
    if (std::system((std::string{"command -v "} + name + " >/dev/null 2>&1").c_str()) == 0) return name;
  return {};
}

/// What a browser window of `width` pixels makes of a page, measured by a script that is added to it.
json rendered(const temporary_folder& folder, std::string html, int width) {
  const std::string probe = R"(<script>
const visible = [...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().width > 100);
const outside = [], overlapping = [];
for (const svg of visible) {
  const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  for (const [text, b] of texts)
    if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1) outside.push(text);
  texts.forEach(([text, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
    if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 3 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
      overlapping.push(text + ' | ' + other);
  }));
}
const rows = () => [...document.querySelectorAll('#layers tbody tr')].map(r => r.cells[2].dataset.v);
const sort = document.querySelectorAll('#layers th button')[2];
const found = {width: document.documentElement.scrollWidth, window: innerWidth, figures: visible.length, outside, overlapping};
sort.click(); found.down = rows();
sort.click(); found.up = rows();
found.background = getComputedStyle(document.body).backgroundColor;
parent.postMessage(JSON.stringify(found), '*');
</script></body>)";
  const std::size_t end = html.rfind("</body>");
  REQUIRE(end != html.npos);
  folder.write("page.html", html.replace(end, 7, probe));
  // A frame, because browsers have a least width of windows.
  const std::string frame =
      folder.write("frame.html", "<title></title><script>onmessage = m => document.title = m.data</script><iframe src=page.html style='width:" +
                                     std::to_string(width) + "px;height:900px;border:0'></iframe>");
  const std::string command = "timeout 100 " + browser() +
                              " --headless --no-sandbox --disable-gpu --virtual-time-budget=20000 --window-size=1400,1000" + " --user-data-dir='" +
                              folder.path("profile") + "' --dump-dom 'file://" + frame + "' 2>/dev/null >'" + folder.path("dom") + "'";
  REQUIRE(std::system(command.c_str()) == 0);
  const std::string dom = folder.read("dom");
  const std::size_t title = dom.find("<title>") + 7;
  return parsed(dom.substr(title, dom.find("</title>", title) - title));
}

}  // namespace

TEST_CASE("--report writes the document of --json and the page, and changes no byte of the checkpoint") {
  const temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors());
  quant(model, folder.path("plain"), {"--quant_type", "w8a16"});
  const program_result result = quant(model, folder.path("out"), {"--quant_type", "w8a16", "--json", "--report", folder.path("deep/report")});
  CHECK(folder.read("deep/report/report.json") == result.out);
  CHECK(difference(tree_of(folder.path("plain")), tree_of(folder.path("out"))) == "");
  const auto files = tree_of(folder.path("deep/report"));
  REQUIRE(files.size() == 2);
  const std::string& html = files.at("report.html");
  CHECK(html.find("<h1>model</h1>") != html.npos);
  CHECK(html.find("id=\"weights\"") != html.npos);
  CHECK(html.find("id=\"ranges\"") == html.npos);
}

TEST_CASE("figures of a layer are those of its weights and of the files") {
  const temporary_folder folder;
  const auto tensors = llama_tensors();
  const std::string model = write_model(folder, "model", tensors);
  const json report = parsed(quant(model, folder.path("out"), {"--quant_type", "w4a16", "--group_size", "32", "--json"}).out);
  const auto stored = module_bytes(folder.path("out"));
  REQUIRE(report["layers"].size() == 14);
  for (const json& l : report["layers"]) {
    const std::string name = l["name"];
    CAPTURE(name);
    const auto source = std::find_if(tensors.begin(), tensors.end(), [&](const tensor_bytes& t) { return t.name == name + ".weight"; });
    REQUIRE(source != tensors.end());
    double squares = 0;
    const std::size_t n = source->bytes.size() / 2;
    for (std::size_t i = 0; i < n; ++i) squares += bf16_at(source->bytes, i) * bf16_at(source->bytes, i);
    const double rms = std::sqrt(squares / static_cast<double>(n));
    CHECK(l["rms"].get<double>() == doctest::Approx(rms).epsilon(1e-12));  // the same f64 sums in another order
    CHECK(l["relative_error"].get<double>() == doctest::Approx(std::sqrt(l["mse"].get<double>()) / rms).epsilon(1e-12));
    CHECK(l["relative_error"].get<double>() > 0.01);
    CHECK(l["relative_error"].get<double>() < 0.2);
    CHECK(l["bytes_before"] == source->bytes.size());
    CHECK(l["bytes_after"] == stored.at(name));
  }
}

TEST_CASE("a calibrated report has a histogram of every value that an operand saw; --json alone has none") {
  const temporary_folder folder;
  const json plain = parsed(calibrated(folder.path("plain"), {"--json"}).out);
  CHECK_FALSE(plain["calibration"]["operands"][0].contains("histogram"));
  calibrated(folder.path("out"), {"--report", folder.path("report"), "--threads", "1"});
  CHECK(difference(tree_of(folder.path("plain")), tree_of(folder.path("out"))) == "");
  const json report = parsed(folder.read("report/report.json"));
  const json config = parsed(tree_of(tiny_llama).at("config.json"));
  REQUIRE(report["calibration"]["operands"].size() == 42);
  for (const json& o : report["calibration"]["operands"]) {
    CAPTURE(o["name"].get<std::string>());
    const json& h = o["histogram"];
    std::uint64_t total = h["below"];
    for (const char* side : {"negative", "positive"})
      for (const json& n : h[side]) total += n.get<std::uint64_t>();
    const bool down = o["name"].get<std::string>().ends_with("down_proj");
    CHECK(total == o["tokens"].get<std::uint64_t>() * config[down ? "intermediate_size" : "hidden_size"].get<std::uint64_t>());
    // The outermost bin holds the extreme of larger magnitude.
    const double largest = std::max(-o["min"].get<double>(), o["max"].get<double>());
    const int outermost = h["first_exponent"].get<int>() + static_cast<int>(h["positive"].size()) - 1;
    CHECK(std::ilogb(largest) == outermost);
    const double scale = o["scale"], zero_point = o["zero_point"];
    CHECK(o["covered_min"].get<double>() == doctest::Approx((-128 - zero_point) * scale).epsilon(1e-6));
    CHECK(o["covered_max"].get<double>() == doctest::Approx((127 - zero_point) * scale).epsilon(1e-6));
  }
  calibrated(folder.path("again"), {"--report", folder.path("threads"), "--threads", "3"});
  CHECK(parsed(folder.read("threads/report.json"))["calibration"]["operands"] == report["calibration"]["operands"]);
}

TEST_CASE("--disable_level leaves the histograms of the layers that stay quantized") {
  const temporary_folder folder;
  calibrated(folder.path("out"), {"--report", folder.path("report"), "--disable_level", "L3"});
  const json report = parsed(folder.read("report/report.json"));
  const auto floats = static_cast<std::size_t>(std::count_if(report["warnings"].begin(), report["warnings"].end(), [](const json& w) {
    return w.get<std::string>().ends_with(": stays float (--disable_level L3)");
  }));
  CHECK(floats >= 3);
  CHECK(report["layers"].size() == 42 - floats);
  REQUIRE(report["calibration"]["operands"].size() == 42 - floats);
  for (const json& o : report["calibration"]["operands"]) CHECK(o.contains("histogram"));
  CHECK(folder.read("report/report.html").find("stays float (--disable_level L3)") != std::string::npos);
}

TEST_CASE("report makes the page again and takes an evaluation in") {
  const temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors());
  quant(model, folder.path("out"), {"--quant_type", "w8a16", "--report", folder.path("report")});
  const std::string page = folder.read("report/report.html"), document = folder.read("report/report.json");
  std::filesystem::remove(folder.path("report/report.html"));
  const program_result again = run_program({"report", folder.path("report/")});
  CHECK(again.exit_code == 0);
  CHECK(again.err == "");
  CHECK(again.out.find(folder.path("report") + "/report.html") != std::string::npos);
  CHECK(folder.read("report/report.html") == page);
  CHECK(folder.read("report/report.json") == document);

  const std::string evaluation =
      folder.write("eval.json", R"({"tokens": 99, "ppl": 7.125, "ppl_reference": 7.0, "kl": 0.0125, "top1": 0.96, "max_abs_logit_diff": 0.5})");
  const program_result result = run_program({"report", folder.path("report"), "--eval", evaluation, "--json"});
  CHECK(result.exit_code == 0);
  CHECK(result.out == folder.read("report/report.json"));
  CHECK(parsed(result.out)["evaluation"]["kl"] == 0.0125);
  const std::string html = folder.read("report/report.html");
  for (const char* part : {"7.125", "was 7.000: +1.79 %", "0.0125", "96 %"}) CHECK_MESSAGE(html.find(part) != html.npos, part);
}

TEST_CASE("report of a checkpoint tells its layers and sizes, and leaves the folder alone if told where to write") {
  const temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors());
  quant(model, folder.path("out"), {"--quant_type", "w8a8_dynamic"});
  const auto before = tree_of(folder.path("out"));
  const program_result result = run_program({"report", folder.path("out"), "--save_path", folder.path("page"), "--json"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(difference(before, tree_of(folder.path("out"))) == "");
  const json report = parsed(result.out);
  CHECK(report["model_type"] == "llama");
  CHECK(report["quant_type"] == "W8A8_DYNAMIC");
  REQUIRE(report["layers"].size() == 14);
  const auto stored = module_bytes(folder.path("out"));
  for (const json& l : report["layers"]) {
    CHECK(l["bytes_after"] == stored.at(l["name"]));
    CHECK_FALSE(l.contains("mse"));
  }
  const std::string html = folder.read("page/report.html");
  CHECK(html.find("id=\"bytes\"") != html.npos);
  CHECK(html.find("id=\"weights\"") == html.npos);
}

TEST_CASE("a folder that cannot take the report is refused before anything is read; so is a wrong evaluation") {
  const temporary_folder folder;
  const std::string model = write_model(folder, "model", llama_tensors());
  const std::string file = folder.write("file", "text");
  check_refused(folder.path(), {"quant", "--model_path", model, "--save_path", folder.path("out"), "--quant_type", "w8a16", "--report", file},
                {{file, "is not a directory"}});
  check_refused(folder.path(), {"report", model, "--eval", file}, {{file, "is not a JSON object"}});
  check_refused(folder.path(), {"report", model, "--eval", folder.path("none")}, {{"none"}});
  check_refused(folder.path(), {"report", folder.path("nowhere")}, {{"nowhere"}});
  std::filesystem::create_directory(folder.path("empty"));
  check_refused(folder.path(), {"report", folder.path("empty")}, {{"empty"}});
  std::filesystem::create_directory(folder.path("broken"));
  folder.write("broken/report.json", R"({"layers": 3})");
  check_refused(folder.path(), {"report", folder.path("broken")}, {{"report.json", "layers", "is not an array"}});
}

TEST_CASE("a browser renders the page without overflow at 1200 and 400 pixels, and sorts the table") {
  if (browser().empty()) {
    MESSAGE("no Chromium here: not rendered");
    return;
  }
  const temporary_folder folder;
  calibrated(folder.path("out"), {"--report", folder.path("report")});
  const std::string html = folder.read("report/report.html");
  for (const int width : {1200, 400}) {
    CAPTURE(width);
    const json seen = rendered(folder, html, width);
    INFO(seen.dump());
    CHECK(seen["window"] == width);
    CHECK(seen["width"] <= width);
    CHECK(seen["figures"] == 4);
    CHECK(seen["outside"].empty());
    CHECK(seen["overlapping"].empty());
    const auto values = [&](const char* key) {
      std::vector<double> all;
      for (const json& v : seen[key]) all.push_back(std::stod(v.get<std::string>()));
      return all;
    };
    const auto down = values("down"), up = values("up");
    CHECK(down.size() == 42);
    CHECK(std::is_sorted(down.rbegin(), down.rend()));
    CHECK(std::is_sorted(up.begin(), up.end()));
  }
}
