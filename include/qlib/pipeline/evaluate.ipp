#pragma once
#include <qlib/core/parallel.hpp>
#include <qlib/format/simulated_model.hpp>
#include <qlib/io/output_file.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/model/activations.hpp>
#include <qlib/pipeline/evaluate.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <string_view>

namespace qlib::inline v0 {

namespace detail {

/// log of the sum of exp of a row, and where its largest element is first.
struct row_summary {
  double log_sum = 0;
  std::size_t largest = 0;
};

inline row_summary summarize_row(const float* x, std::size_t n) {
  row_summary s;
  for (std::size_t c = 1; c < n; ++c)
    if (x[c] > x[s.largest]) s.largest = c;
  const double most = x[s.largest];
  double sum = 0;
  for (std::size_t c = 0; c < n; ++c) sum += std::exp(static_cast<double>(x[c]) - most);
  s.log_sum = most + std::log(sum);
  return s;
}

/// What one token contributes.
struct token_scores {
  double loss = 0, reference_loss = 0, kl = 0, difference = 0;
  bool agrees = false, finite = true;
};

inline token_scores score_token(const float* q, const float* p, std::size_t n, std::int32_t next) {
  token_scores out;
  const row_summary sq = summarize_row(q, n);
  out.finite = std::isfinite(sq.log_sum);
  if (next >= 0) out.loss = sq.log_sum - static_cast<double>(q[next]);
  if (!p) return out;
  const row_summary sp = summarize_row(p, n);
  out.finite = out.finite && std::isfinite(sp.log_sum);
  if (next >= 0) out.reference_loss = sp.log_sum - static_cast<double>(p[next]);
  out.agrees = sq.largest == sp.largest;
  for (std::size_t c = 0; c < n; ++c) {
    const double lp = static_cast<double>(p[c]) - sp.log_sum, lq = static_cast<double>(q[c]) - sq.log_sum;
    out.kl += std::exp(lp) * (lp - lq);
    out.difference = std::max(out.difference, std::fabs(static_cast<double>(q[c]) - static_cast<double>(p[c])));
  }
  return out;
}

inline constexpr std::string_view not_finite = "a logit is not finite";

/// The first weight of `source` that is not finite, said as an error; nothing: all are.
inline std::optional<error> first_not_finite(const parameter_source& source, std::string_view where) {
  constexpr std::size_t most = std::size_t{1} << 20;  // values read at once
  std::vector<float> room;
  for (const std::string& name : source.names()) {
    const auto shape = source.shape(name);
    if (!shape) continue;
    std::size_t rows = 1, cols = 1;
    for (std::size_t d = 0; d < shape->size(); ++d) (d + 1 < shape->size() ? rows : cols) *= (*shape)[d];
    const std::size_t step = std::max<std::size_t>(1, most / std::max<std::size_t>(1, cols));
    for (std::size_t first = 0; first < rows; first += step) {
      const std::size_t n = std::min(step, rows - first);
      room.resize(n * cols);
      if (!source.read(name, {room.data(), n, cols}, first)) break;
      const auto bad = std::find_if(room.begin(), room.end(), [](float v) { return !std::isfinite(v); });
      if (bad == room.end()) continue;
      const auto at = static_cast<std::size_t>(bad - room.begin());
      const std::string place = (shape->size() > 1 ? std::to_string(first + at / cols) + ", " : "") + std::to_string(at % cols);
      return error{.where = std::string{where},
                   .subject = name + "[" + place + "]",
                   .problem = std::isnan(*bad) ? "NaN"
                              : *bad > 0       ? "+infinity"
                                               : "-infinity",
                   .remedy = "the checkpoint is damaged or was trained to overflow; a weight must be finite"};
    }
  }
  return std::nullopt;
}

/// The file of --logits, filled row by row beside its place and moved there at the end.
class logits_file {
 public:
  status create(const std::string& path, std::uint64_t tokens, std::uint64_t vocabulary) {
    std::vector<tensor_info> tensors(1);
    tensors[0].name = "logits";
    tensors[0].dtype = dtype::f32;
    tensors[0].shape = {tokens, vocabulary};
    const result<std::uint64_t> size = assign_offsets(tensors);
    if (!size) return size.error();
    const result<std::string> header = serialize_safetensors_header(tensors);
    if (!header) return header.error();
    path_ = path;
    at_ = header->size();
    result<output_file> file = output_file::create(unfinished_name(path), at_ + *size);
    if (!file) return file.error();
    file_ = *std::move(file);
    return file_.write_at(0, std::as_bytes(std::span{header->data(), header->size()}));
  }
  status append(matrix_view<const float> rows) {
    if (path_.empty()) return {};
    const auto bytes = std::as_bytes(std::span{rows.data(), rows.size()});
    const std::uint64_t at = std::exchange(at_, at_ + bytes.size());
    return file_.write_at(at, bytes);
  }
  status commit() {
    if (path_.empty()) return {};
    if (status s = put_in_place(std::move(file_), path_); !s) return s;
    path_.clear();
    return {};
  }
  logits_file() = default;
  logits_file(const logits_file&) = delete;
  logits_file& operator=(const logits_file&) = delete;
  ~logits_file() {
    if (!path_.empty()) std::remove(unfinished_name(path_).c_str());
  }

 private:
  output_file file_;
  std::string path_;
  std::uint64_t at_ = 0;
};

/// Sums over tokens, in their order.
struct score_sums {
  double loss = 0, reference_loss = 0, kl = 0, difference = 0;
  std::size_t tokens = 0, predicted = 0, agreed = 0;
};

/// Samples [first, last) from embeddings to scores.
inline status evaluate_round(const std::array<evaluated_model, 2>& models, std::span<const std::vector<std::int32_t>> samples,
                             const evaluation_options& options, const std::function<void()>& step, logits_file& file, score_sums& sums) {
  std::vector<std::size_t> starts{0};
  std::vector<std::int32_t> ids, next;
  for (const std::vector<std::int32_t>& s : samples) {
    ids.insert(ids.end(), s.begin(), s.end());
    next.insert(next.end(), s.begin() + 1, s.end());
    next.push_back(-1);
    starts.push_back(ids.size());
  }
  std::array<activations, 2> hidden, logits;
  const std::size_t count = models[1].model ? 2 : 1;
  for (std::size_t m = 0; m < count; ++m) {
    const decoder& d = *models[m].model;
    if (status s = hidden[m].reshape(ids.size(), d.description().hidden_size); !s) return s;
    if (status s = d.embed(ids, hidden[m].view(), starts); !s) return s;
  }
  const std::size_t layers = std::max(models[0].model->layers(), count == 2 ? models[1].model->layers() : 0);
  for (std::size_t l = 0; l < layers; ++l) {
    for (std::size_t m = 0; m < count; ++m)
      if (l < models[m].model->layers())
        if (status s = models[m].model->run_layer(l, hidden[m].view(), starts, *models[m].hook); !s) return s;
    step();
  }
  const std::size_t vocabulary = models[0].model->description().vocabulary;
  const std::size_t rows = std::clamp<std::size_t>((std::size_t{1} << 25) / vocabulary, 16, 4096);  // 128 MiB of logits
  std::vector<token_scores> scores;
  for (std::size_t first = 0; first < ids.size(); first += rows) {
    const std::size_t n = std::min(rows, ids.size() - first);
    for (std::size_t m = 0; m < count; ++m) {
      if (status s = logits[m].reshape(n, vocabulary); !s) return s;
      if (status s = models[m].model->logits(hidden[m].view().strip(first, n), logits[m].view(), *models[m].hook); !s) return s;
    }
    if (status s = file.append(logits[0].view()); !s) return s;
    scores.assign(n, {});
    parallel_for(n, options.threads, [&](std::size_t, std::size_t r) {
      scores[r] = score_token(logits[0].row(r), count == 2 ? logits[1].row(r) : nullptr, vocabulary, next[first + r]);
      return true;
    });
    for (std::size_t r = 0; r < n; ++r) {
      const token_scores& t = scores[r];
      if (!t.finite)
        return error{.subject = "token " + std::to_string(sums.tokens),
                     .problem = std::string{not_finite},
                     .remedy = "the weights are finite, but a layer overflows: evaluate another text, or a checkpoint that was not changed"};
      sums.loss += t.loss;
      sums.reference_loss += t.reference_loss;
      sums.kl += t.kl;
      sums.difference = std::max(sums.difference, t.difference);
      sums.agreed += t.agrees;
      sums.predicted += next[first + r] >= 0;
      ++sums.tokens;
    }
  }
  step();
  return {};
}

}  // namespace detail

QLIB_INLINE status evaluate(evaluated_model model, evaluated_model reference, std::span<const std::vector<std::int32_t>> samples,
                            const evaluation_options& options, evaluation& out) {
  const std::size_t vocabulary = model.model->description().vocabulary;
  if (reference.model && reference.model->description().vocabulary != vocabulary)
    return error{.subject = "vocab_size",
                 .problem = std::to_string(vocabulary) + ", but the reference has " + std::to_string(reference.model->description().vocabulary),
                 .remedy = "give the float checkpoint that this model was made from"};
  std::uint64_t tokens = 0;
  for (std::size_t s = 0; s < samples.size(); ++s) {
    if (samples[s].empty()) return error{.subject = "sample " + std::to_string(s), .problem = "has no tokens", .remedy = "leave it out"};
    tokens += samples[s].size();
  }
  if (tokens == 0) return error{.subject = "samples", .problem = "there are none", .remedy = "give text or ids to evaluate on"};

  std::vector<std::size_t> rounds{0};  // first sample of each
  for (std::size_t s = 0, held = 0; s < samples.size(); ++s) {
    if (held > 0 && held + samples[s].size() > options.residual_tokens) {
      rounds.push_back(s);
      held = 0;
    }
    held += samples[s].size();
  }
  rounds.push_back(samples.size());

  detail::logits_file file;
  if (!options.logits_path.empty())
    if (status s = file.create(options.logits_path, tokens, vocabulary); !s) return s;
  const std::size_t layers = std::max(model.model->layers(), reference.model ? reference.model->layers() : 0);
  const std::size_t all = (rounds.size() - 1) * (layers + 1);
  std::size_t done = 0;
  const auto step = [&] {
    ++done;
    if (options.progress) options.progress(done, all);
  };
  detail::score_sums sums;
  for (std::size_t r = 0; r + 1 < rounds.size(); ++r)
    if (status s = detail::evaluate_round({model, reference}, samples.subspan(rounds[r], rounds[r + 1] - rounds[r]), options, step, file, sums); !s)
      return s;
  if (status s = file.commit(); !s) return s;

  out = {};
  out.tokens = sums.tokens;
  const auto perplexity = [&](double loss) { return std::exp(loss / static_cast<double>(sums.predicted)); };
  if (sums.predicted > 0) out.ppl = perplexity(sums.loss);
  if (!reference.model) return {};
  if (sums.predicted > 0) out.ppl_reference = perplexity(sums.reference_loss);
  out.kl = sums.kl / static_cast<double>(sums.tokens);
  out.top1 = static_cast<double>(sums.agreed) / static_cast<double>(sums.tokens);
  out.max_abs_logit_diff = sums.difference;
  return {};
}

QLIB_INLINE errors evaluate(const std::string& model_path, const std::string& reference_path, std::span<const std::vector<std::int32_t>> samples,
                            const evaluation_options& options, evaluation& out) {
  std::array<simulated_model, 2> files;
  std::array<decoder, 2> decoders;
  std::array<evaluated_model, 2> models;
  errors found;
  for (std::size_t m = 0; m < 2; ++m) {
    const std::string& path = m == 0 ? model_path : reference_path;
    if (path.empty()) continue;
    errors here = simulated_model::open(path, {.phase = options.phase, .threads = options.threads}, files[m]);
    if (here.empty()) {
      const decoder_options how{.gemm = options.gemm, .threads = options.threads, .chunk_tokens = options.chunk_tokens};
      here = decoder::create(files[m].description(), files[m].parameters(), how, decoders[m]);
    }
    if (here.empty()) models[m] = {&decoders[m], &files[m].hook()};
    found.insert(found.end(), here.begin(), here.end());
  }
  if (!found.empty()) return found;
  if (status s = evaluate(models[0], models[1], samples, options, out); !s) {
    error e = s.error();
    if (e.problem == detail::not_finite)
      for (std::size_t m = 0; m < 2; ++m)
        if (models[m].model)
          if (auto weight = detail::first_not_finite(files[m].parameters(), m == 0 ? model_path : reference_path)) return {*std::move(weight)};
    if (e.where.empty()) e.where = model_path;
    return {std::move(e)};
  }
  return {};
}

}  // namespace qlib::inline v0
