/// The report as data, JSON, page and text.
#include <doctest/doctest.h>
#include <qlib/report/figures.hpp>
#include <qlib/report/median_error.hpp>
#include <qlib/report/module_place.hpp>
#include <qlib/report/number_text.hpp>
#include <qlib/report/report_html.hpp>
#include <qlib/report/report_json.hpp>
#include <qlib/report/report_text.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace {

/// A model of `layers` layers with two linears each, a head outside of the stack, and calibrated inputs.
qlib::accuracy_report sample_report(std::size_t layers = 4) {
  qlib::accuracy_report r;
  r.model = "tiny";
  r.model_type = "llama";
  r.quant_type = "w8a8";
  r.format = "ascend_v1";
  r.seconds = 1.5;
  r.peak_rss_bytes = 123456789;
  r.input_bytes = 10'000'000;
  r.output_bytes = 6'000'000;
  r.floats = 3;
  qlib::reported_calibration c;
  c.file = "calib.jsonl";
  c.products = "reproducible";
  c.samples = 2;
  c.tokens = 64;
  for (std::size_t i = 0; i < layers; ++i)
    for (const char* kind : {".mlp.up_proj", ".mlp.down_proj"}) {
      const std::string name = "model.layers." + std::to_string(i) + kind;
      r.layers.push_back({name, "W8A8", qlib::weight_error{1e-6 * static_cast<double>(i + 1), 0.9999, 0.01, 0.1}, 2048, 1100});
      qlib::reported_operand o;
      o.name = name;
      o.observer = "minmax";
      o.tokens = 64;
      o.seen = {-1.5f - static_cast<float>(i), 3.25f + static_cast<float>(r.layers.size())};
      o.covered = {-2.0f, 3.0f};
      o.range_score = 10.0 + static_cast<double>(r.layers.size());
      o.scale = 0.03125f;
      o.zero_point = -7;
      o.histogram.emplace();
      o.histogram->below = 5;
      o.histogram->positive[24] = 40;
      o.histogram->negative[20] = 19;
      c.operands.push_back(std::move(o));
    }
  r.layers.push_back({"lm_head", "W8A16", qlib::weight_error{1e-5, 0.999, 0.02, 0.1}, 4096, 2100});
  r.quantized = r.layers.size();
  r.calibration = std::move(c);
  r.evaluation = qlib::reported_evaluation{64, 12.5, 12.25, 0.0031, 0.97, std::nullopt};
  r.files = {"config.json"};
  r.warnings = {"a warning"};
  return r;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

/// Elements that are opened and not closed in order, or the reverse; empty for a well-formed page.
std::string first_imbalance(const std::string& html) {
  std::vector<std::string> open;
  for (std::size_t at = html.find('<'); at != html.npos; at = html.find('<', at + 1)) {
    const std::size_t end = html.find('>', at);
    if (end == html.npos) return "no end: " + html.substr(at, 40);
    if (html[at + 1] == '!' || html[end - 1] == '/') continue;
    const bool closing = html[at + 1] == '/';
    const std::size_t begin = at + 1 + closing;
    const std::string name = html.substr(begin, html.find_first_of(" >", begin) - begin);
    if (name == "meta" || name == "wbr") continue;
    if (!closing) {
      open.push_back(name);
      if (name == "script" || name == "style") at = html.find("</" + name, end) - 1;
      continue;
    }
    if (open.empty() || open.back() != name) return "</" + name + "> after " + (open.empty() ? "nothing" : "<" + open.back() + ">");
    open.pop_back();
  }
  return open.empty() ? "" : "<" + open.back() + "> stays open";
}

}  // namespace

TEST_CASE("a report survives JSON: what is read is written again, word for word") {
  const qlib::accuracy_report r = sample_report();
  const std::string text = json_of(r);
  qlib::accuracy_report back;
  const qlib::errors found = qlib::parse_report(text, "report.json", back);
  REQUIRE(found.empty());
  CHECK(json_of(back) == text);
  REQUIRE(back.layers.size() == 9);
  CHECK(back.layers[1].error->relative() == r.layers[1].error->relative());
  REQUIRE(back.calibration->operands[3].histogram);
  CHECK(back.calibration->operands[3].histogram->positive == r.calibration->operands[3].histogram->positive);
  CHECK(back.calibration->operands[3].histogram->negative == r.calibration->operands[3].histogram->negative);
  CHECK(back.evaluation->ppl == r.evaluation->ppl);
  CHECK_FALSE(back.evaluation->max_abs_logit_diff);
}

TEST_CASE("numbers that are not finite are null in the JSON, and unknown again when read") {
  qlib::accuracy_report r = sample_report();
  r.calibration->operands[0].seen = qlib::range::empty();
  r.layers[0].error->mse = std::nan("");
  qlib::accuracy_report back;
  REQUIRE(qlib::parse_report(json_of(r), "report.json", back).empty());
  CHECK(std::isnan(back.calibration->operands[0].seen.min));
  CHECK_FALSE(back.layers[0].error);
}

TEST_CASE("a damaged report is refused, and the error names the member") {
  qlib::accuracy_report out;
  out.model = "before";
  const auto first = [&](const std::string& text) {
    const qlib::errors found = qlib::parse_report(text, "report.json", out);
    REQUIRE_FALSE(found.empty());
    return found.front().text();
  };
  CHECK(first("{").find("report.json: is not a JSON object") == 0);
  CHECK(first("[1]").find("report.json: is not a JSON object") == 0);
  CHECK(first("{}").find("report.json: layers") == 0);
  CHECK(first(R"({"layers":{}})").find("report.json: layers: is not an array") == 0);
  CHECK(first(R"({"layers":[{"name":"a"},{"name":7}]})").find("report.json: layers[1].name: is not a string") == 0);
  CHECK(first(R"({"layers":[],"input_bytes":-1})").find("input_bytes: is not a count") != std::string::npos);
  CHECK(first(R"({"layers":[],"warnings":[1]})").find("warnings[0]") != std::string::npos);
  CHECK(
      first(
          R"({"layers":[],"calibration":{"operands":[{"histogram":{"first_exponent":10,"negative":[0,0,0,0,0,0,0,0],"positive":[0,0,0,0,0,0,0,0]}}]}})")
          .find("operands[0].histogram: is not a histogram") != std::string::npos);
  CHECK(first(R"({"layers":[],"calibration":{"operands":[{"histogram":{"first_exponent":-99,"negative":[],"positive":[]}}]}})").find("histogram") !=
        std::string::npos);
  CHECK(out.model == "before");
}

TEST_CASE("an evaluation is what `qlib eval --json` prints, and nothing else") {
  qlib::reported_evaluation e;
  REQUIRE(
      qlib::parse_evaluation(R"({"tokens":10,"ppl":3.5,"ppl_reference":null,"kl":null,"top1":null,"max_abs_logit_diff":null})", "e.json", e).empty());
  CHECK(e.tokens == 10);
  CHECK(e.ppl == 3.5);
  CHECK_FALSE(e.kl);
  CHECK(qlib::parse_evaluation(json_of(sample_report()), "e.json", e).front().problem.find("qlib eval --json") != std::string::npos);
  CHECK(qlib::parse_evaluation(R"({"tokens":10,"ppl":"low"})", "e.json", e).front().subject == "ppl");
}

TEST_CASE("the page is well formed, whatever is known") {
  for (int known = 0; known < 16; ++known) {
    qlib::accuracy_report r = sample_report();
    if (known & 1) r.calibration.reset();
    if (known & 2) r.evaluation.reset();
    if (known & 4) r.input_bytes = 0;
    if (known & 8)
      for (auto& l : r.layers) l.error.reset(), l.bytes_before = 0;
    const std::string html = html_of(r);
    CAPTURE(known);
    CHECK(first_imbalance(html) == "");
    CHECK(count(html, "<figure") == count(html, "<figcaption"));
    CHECK(count(html, "<figure") == (known & 8 ? 1u : 2u) + (known & 1 ? 0u : 2u));
    CHECK(count(html, "Perplexity") == (known & 2 ? 0u : 1u));
  }
  CHECK(first_imbalance(html_of(qlib::accuracy_report{})) == "");
}

TEST_CASE("the page refers to nothing outside of itself") {
  const std::string html = html_of(sample_report());
  for (const char* part : {"http:", "https:", "//", "src=", "href=", "url(", "@import", "fetch("}) {
    CAPTURE(part);
    CHECK(html.find(part) == std::string::npos);
  }
  CHECK(html.find("default-src 'none'") != std::string::npos);
}

TEST_CASE("text from checkpoints is escaped everywhere") {
  const std::string evil = "<script>alert('1')</script>&\"";
  qlib::accuracy_report r = sample_report();
  r.model = r.model_type = r.quant_type = r.format = evil;
  r.warnings = {evil};
  for (auto& l : r.layers) l.name = "model.layers.0." + evil + l.name, l.quant_type = evil;
  for (auto& o : r.calibration->operands) o.name = evil + o.name, o.observer = evil;
  const std::string html = html_of(r);
  CHECK(html.find("<script>alert") == std::string::npos);
  CHECK(html.find("alert('1')") == std::string::npos);
  CHECK(count(html, "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;") > 10);
  CHECK(first_imbalance(html) == "");
  CHECK(qlib::escaped(std::string{"a\x01z\n", 4}) == "a\xef\xbf\xbdz\xef\xbf\xbd");
}

TEST_CASE("degenerate figures stay drawings: no coordinate is NaN or infinite") {
  const double infinite = std::numeric_limits<double>::infinity();
  std::vector<qlib::accuracy_report> all;
  all.push_back(sample_report(0));  // the head alone
  all.push_back(sample_report(1));
  for (auto& l : all.back().layers) l.error = qlib::weight_error{0, 1, 0, 0.5};  // exact
  all.push_back(sample_report(2));
  for (auto& l : all.back().layers) l.error->mse = infinite, l.bytes_after = 0;
  all.push_back(sample_report(3));
  for (auto& o : all.back().calibration->operands) {
    o.seen = o.covered = {0, 0};
    o.scale = 0.0f;
    o.histogram = qlib::magnitude_histogram{};
  }
  all.push_back(sample_report(3));
  for (auto& o : all.back().calibration->operands) {
    o.seen = {-1e30f, 3e38f};
    o.covered = qlib::range::undefined();
    o.scale.reset();
    o.range_score = infinite;
    o.histogram->positive.back() = 1;
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    const std::string html = html_of(all[i]);
    CHECK(first_imbalance(html) == "");
    for (const char* attribute : {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "data-v"})
      for (const char* value : {"nan", "-nan", "inf", "-inf", "unknown", "−∞", "∞"})
        CHECK(html.find(std::string{" "} + attribute + "=\"" + value) == std::string::npos);
    CHECK(text_of(all[i]).size() > 20);
  }
}

TEST_CASE("the worst ten layers are named, worst first") {
  const std::string html = html_of(sample_report(20));
  const std::size_t list = html.find("<ol class=\"worst\">");
  REQUIRE(list != html.npos);
  const std::string worst = html.substr(list, html.find("</ol>", list) - list);
  CHECK(count(worst, "<li>") == 10);
  // mse grows with depth; 20e-6 of layer 19 is above 10e-6 of the head
  CHECK(worst.find("layers.<wbr>19.<wbr>") < worst.find("layers.<wbr>18.<wbr>"));
  CHECK(worst.find("4.47 %") != worst.npos);  // sqrt(20e-6) / 0.1
}

TEST_CASE("inputs that several linears share are one activation, and experts of a layer are one point") {
  qlib::accuracy_report r = sample_report(1);
  auto& operands = r.calibration->operands;
  operands[1] = operands[0];
  operands[1].name = "model.layers.0.mlp.gate_proj";
  const qlib::kind_palette palette{r};
  const std::string shared = activation_range_figure(r, palette);
  CHECK(count(shared, "mlp.up_proj, gate_proj</span>") == 1);
  CHECK(count(shared, "<title>") == 2);  // one bar in the wide drawing and one in the narrow one

  r.layers.clear();
  for (int e = 0; e < 50; ++e)
    r.layers.push_back({"model.layers.0.experts." + std::to_string(e) + ".up_proj", "W4A16", qlib::weight_error{1e-6 * (e + 1), 1, 1, 1}, 2, 1});
  const std::string errors = weight_error_figure(r, qlib::kind_palette{r});
  CHECK(count(errors, "<title>") == 2);
  CHECK(count(errors, "the worst of 50") == 2);
  CHECK(errors.find("experts.49.up_proj") != errors.npos);
}

TEST_CASE("a page of a model with very many experts shows the worst of them") {
  qlib::accuracy_report r;
  for (int i = 0; i < 5000; ++i)
    r.layers.push_back({"model.layers.0.experts." + std::to_string(i) + ".up_proj", "W4A16", qlib::weight_error{1e-9 * (i + 1), 1, 1, 1}, 2, 1});
  const std::string html = html_of(r);
  CHECK(count(html, "<tr><td>") == 2000);
  CHECK(html.find("experts.<wbr>4999.<wbr>") != html.npos);
  CHECK(html.find("experts.<wbr>7.<wbr>up_proj") == html.npos);
  CHECK(html.find("2000 of 5000") != html.npos);
}

TEST_CASE("a histogram counts powers of two, signs apart") {
  const std::vector<float> x{0.0f, -0.0f, 1e-40f, 5.9e-8f, 5.97e-8f, 1.0f, 1.5f, -2.0f, 3.999f, -65536.0f, 3e38f, -1e-9f};
  qlib::magnitude_histogram h;
  h.observe({x.data(), 2, 6});
  CHECK(h.below == 5);  // 2^-24 is 5.96e-8
  CHECK(h.positive[0] == 1);
  CHECK(h.positive[24] == 2);
  CHECK(h.positive[25] == 1);
  CHECK(h.negative[25] == 1);
  CHECK(h.negative[40] == 1);
  CHECK(h.positive[40] == 1);
  CHECK(h.total() == x.size());
  qlib::magnitude_histogram parts, second;
  parts.observe({x.data(), 1, 5});
  second.observe({x.data() + 5, 1, 7});
  parts.merge(second);
  CHECK(parts.below == h.below);
  CHECK(parts.positive == h.positive);
  CHECK(parts.negative == h.negative);
  qlib::magnitude_histogram strided;  // columns beyond the stride's first two are not its own
  strided.observe({x.data(), 2, 2, 6});
  CHECK(strided.total() == 4);
}

TEST_CASE("axes are monotone and hold their data and ticks") {
  using qlib::axis_scale;
  const std::vector<qlib::figure_axis> axes{{0, 7.3, 10, 200},
                                            {-3, 12345, 200, 10},
                                            qlib::logarithmic_axis(3e-5, 0.7, 300, 0),
                                            qlib::logarithmic_axis(0.011, 0.012, 300, 0),
                                            {-700, 12, 300, 0, axis_scale::symmetric, 0.1},
                                            {-0.001, 0.002, 300, 0, axis_scale::symmetric, 1e-5}};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const qlib::figure_axis& a = axes[i];
    CAPTURE(i);
    CHECK(a.at(a.low) == doctest::Approx(a.from));
    CHECK(a.at(a.high) == doctest::Approx(a.to));
    const auto ticks = a.ticks(6);
    CHECK(ticks.size() >= 2);
    CHECK(ticks.size() <= 16);
    for (std::size_t k = 0; k < ticks.size(); ++k) {
      CHECK(ticks[k].value >= a.low - 1e-9 * (a.high - a.low));
      CHECK(ticks[k].value <= a.high + 1e-9 * (a.high - a.low));
      if (k == 0) continue;
      CHECK(ticks[k].value > ticks[k - 1].value);
      CHECK((a.at(ticks[k].value) > a.at(ticks[k - 1].value)) == (a.to > a.from));
    }
  }
  const qlib::figure_axis narrow = qlib::logarithmic_axis(0.011, 0.012, 300, 0);
  CHECK(narrow.low <= 0.011);
  CHECK(narrow.high >= 0.012);
}

TEST_CASE("a module's place is its depth and what is the same at every depth") {
  const auto check = [](const char* name, std::optional<std::size_t> depth, const char* kind) {
    CAPTURE(name);
    const qlib::module_place p = qlib::place_of(name);
    CHECK(p.depth == depth);
    CHECK(p.kind == kind);
  };
  check("model.layers.17.mlp.experts.3.up_proj", 17, "mlp.experts.*.up_proj");
  check("model.layers.0.self_attn.q_proj", 0, "self_attn.q_proj");
  check("lm_head", std::nullopt, "lm_head");
  check("transformer.h.5.attn.c_attn", 5, "attn.c_attn");
  check("", std::nullopt, "");
  check("a..b", std::nullopt, "a..b");
}

TEST_CASE("numbers are short, and sizes count in powers of ten") {
  CHECK(qlib::significant(0.00123456) == "0.00123");
  CHECK(qlib::significant(41) == "41");
  CHECK(qlib::significant(12345.6) == "12346");
  CHECK(qlib::significant(1.23456e9) == "1.23e+09");
  CHECK(qlib::significant(-0.5) == "-0.5");
  CHECK(qlib::bytes_text(999) == "999 B");
  CHECK(qlib::bytes_text(3'200'000'000.0) == "3.20 GB");
  CHECK(qlib::bytes_text(14'600'000.0) == "14.6 MB");
  CHECK(qlib::percent(0.0447) == "4.47 %");
}

TEST_CASE("the text names sizes, perplexity and the worst layers") {
  const std::string text = text_of(sample_report());
  CHECK(text.find("10.0 MB -> 6.00 MB (1.67x)") != text.npos);
  CHECK(text.find("12.5000 (was 12.2500)") != text.npos);
  CHECK(text.find("lm_head  3.16 %  W8A16") != text.npos);
}

TEST_CASE("page and text name the same median, of an even number of layers the mean of the middle two") {
  qlib::accuracy_report r;
  for (const double relative : {0.5, 0.1, 0.2, 0.4}) {
    qlib::reported_layer l;
    l.name = "model.layers." + std::to_string(r.layers.size()) + ".mlp.up_proj";
    l.error = qlib::weight_error{.mse = relative * relative, .rms = 1};
    r.layers.push_back(l);
  }
  CHECK(*qlib::median_error(r) == doctest::Approx(0.3));
  CHECK(text_of(r).find("median 30 %, worst 50 %") != std::string::npos);
  CHECK(html_of(r).find("<dd>30 %</dd><dd>median of 4 layers; the worst 50 %</dd>") != std::string::npos);
  r.layers.pop_back();
  CHECK(*qlib::median_error(r) == doctest::Approx(0.2));
  CHECK_FALSE(qlib::median_error({}));
}
