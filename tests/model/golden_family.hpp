/// A directory of tests/golden/families: checkpoint, description, reference results.
#pragma once
#include <qlib/model/decoder.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

namespace qlib_test {

inline std::string families_folder() { return QLIB_SOURCE_DIR "/tests/golden/families"; }

inline std::vector<std::string> golden_families() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator{families_folder()})
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// All errors in one text, for messages of tests.
inline std::string text_of(const qlib::errors& found) {
  std::string text;
  for (const qlib::error& e : found) text += e.text() + "\n";
  return text;
}

/// A model directory opened as the pipeline opens it.
struct opened_model {
  qlib::checkpoint source;
  qlib::model_layout layout;
  qlib::model_description description;
  qlib::errors found;

  explicit opened_model(const std::string& directory) {
    found = qlib::checkpoint::open(directory, source);
    if (found.empty()) found = qlib::read_model_layout(source, layout);
    if (found.empty()) found = qlib::read_model_description(source.config_text(), directory + "/config.json", description);
  }
};

/// Results of a forward pass over all samples: hidden states before each layer and after the last one, then logits.
struct forward_result {
  std::vector<std::vector<float>> hidden;
  std::vector<float> logits;
};

inline forward_result run_forward(const qlib::decoder& decoder, const std::vector<std::int32_t>& ids, const std::vector<std::size_t>& rows,
                                  qlib::forward_hook& hook) {
  const std::size_t tokens = ids.size(), width = decoder.description().hidden_size, vocabulary = decoder.description().vocabulary;
  forward_result out;
  std::vector<float> hidden(tokens * width);
  const qlib::matrix_view<float> view{hidden.data(), tokens, width};
  REQUIRE(decoder.embed(ids, view, rows));
  out.hidden.push_back(hidden);
  for (std::size_t l = 0; l < decoder.layers(); ++l) {
    const qlib::status ran = decoder.run_layer(l, view, rows, hook);
    REQUIRE_MESSAGE(ran, (ran ? "" : ran.error().text()));
    out.hidden.push_back(hidden);
  }
  out.logits.resize(tokens * vocabulary);
  REQUIRE(decoder.logits(view, {out.logits.data(), tokens, vocabulary}, hook));
  return out;
}

struct golden_family {
  opened_model model;
  qlib::safetensors_file golden;
  std::vector<std::int32_t> ids;
  std::vector<std::size_t> rows;  ///< first row of each sample, then their sum

  explicit golden_family(const std::string& name) : model{families_folder() + "/" + name} {
    REQUIRE_MESSAGE(model.found.empty(), text_of(model.found));
    REQUIRE(qlib::safetensors_file::open(families_folder() + "/" + name + "/golden.safetensors", golden).empty());
    const qlib::tensor_info* t = golden.find("ids");
    REQUIRE(t);
    ids.resize(t->elements());
    std::memcpy(ids.data(), golden.bytes(*t).data(), golden.bytes(*t).size());
    for (std::size_t s = 0; s <= t->shape[0]; ++s) rows.push_back(s * t->shape[1]);
  }

  std::vector<float> reference(const std::string& name) const {
    const qlib::tensor_info* t = golden.find(name);
    REQUIRE_MESSAGE(t, name);
    std::vector<float> out(t->elements());
    std::memcpy(out.data(), golden.bytes(*t).data(), golden.bytes(*t).size());
    return out;
  }

  qlib::decoder decoder(const qlib::parameter_source& source, std::size_t threads = 1, std::size_t chunk_tokens = 2048) const {
    qlib::decoder out;
    const qlib::errors found = qlib::decoder::create(
        model.description, source, {.gemm = {.kind = qlib::gemm_kind::reproducible}, .threads = threads, .chunk_tokens = chunk_tokens}, out);
    REQUIRE_MESSAGE(found.empty(), text_of(found));
    return out;
  }

  forward_result run(const qlib::parameter_source& source, qlib::forward_hook& hook, std::size_t threads = 1, std::size_t chunk_tokens = 2048) const {
    return run_forward(decoder(source, threads, chunk_tokens), ids, rows, hook);
  }
};

/// Largest difference over largest reference value; infinite when one is NaN.
inline double relative_difference(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    if (!(d <= difference)) difference = std::isnan(d) ? HUGE_VAL : d;
    largest = std::max(largest, std::abs(static_cast<double>(want[i])));
  }
  return difference / largest;
}

}  // namespace qlib_test
