#pragma once
#include <qlib/io/file.hpp>
#include <qlib/io/utf8.hpp>
#include <qlib/tokenizer/byte_alphabet.hpp>
#include <qlib/tokenizer/piece_cache.hpp>
#include <qlib/tokenizer/tokenizer.hpp>
#include <qlib/tokenizer/tokenizer_json.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include <sys/stat.h>

namespace qlib::inline v0 {

/// What one call of `encode` needs, kept for the next call.
struct tokenizer::workspace {
  text::regex_scratch regex;
  text::piece_cache cache;
  text::bpe::scratch bpe;
  text::unigram::scratch unigram;
  std::vector<text::segment> raw, normal;
  text::pieces pieces;
};

/// As many as threads encode at the same time. A thread has one for itself, so that there is one lock a call.
struct tokenizer::workspaces {
  std::mutex mutex;
  std::vector<std::unique_ptr<workspace>> idle;

  class lease {
   public:
    explicit lease(workspaces& all) : all_{all} {
      const std::lock_guard lock{all_.mutex};
      if (all_.idle.empty()) return;
      work_ = std::move(all_.idle.back());
      all_.idle.pop_back();
    }
    ~lease() {
      if (!work_) return;
      const std::lock_guard lock{all_.mutex};
      all_.idle.push_back(std::move(work_));
    }
    lease(const lease&) = delete;
    lease& operator=(const lease&) = delete;
    workspace& operator*() {
      if (!work_) work_ = std::make_unique<workspace>();
      return *work_;
    }

   private:
    workspaces& all_;
    std::unique_ptr<workspace> work_;
  };
};

QLIB_INLINE tokenizer::tokenizer() : parts_{std::make_shared<text::tokenizer_parts>()}, workspaces_{std::make_shared<workspaces>()} {}

QLIB_INLINE result<tokenizer> tokenizer::load(const std::string& path) {
  struct stat info {};
  std::string file = path, directory_path;
  if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    directory_path = path + (path.ends_with('/') ? "" : "/");
    file = directory_path + "tokenizer.json";
  }
  if (::stat(file.c_str(), &info) != 0) {
    const bool directory = !directory_path.empty();
    const std::string folder = file.substr(0, file.size() - std::string_view{"tokenizer.json"}.size() * directory);
    // Other files of a tokenizer, from which transformers makes a tokenizer.json.
    for (const char* other :
         {"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tiktoken.model", "qwen.tiktoken", "vocab.json", "vocab.txt"})
      if (directory && ::stat((folder + other).c_str(), &info) == 0)
        return error{error_kind::invalid_input,
                     file,
                     {},
                     std::string{"there is no such file, and "} + other + " beside it is not read",
                     "make it with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder), or pass token ids with --calib_ids"};
    return error{error_kind::invalid_input,
                 file,
                 {},
                 "there is no such file",
                 directory ? "download the checkpoint's tokenizer.json, or pass token ids with --calib_ids" : "check the path"};
  }
  const auto json = read_text_file(file);
  if (!json) return json.error();
  std::array<std::string, 3> beside;
  constexpr std::array<const char*, 3> names{"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"};
  for (std::size_t i = 0; i < names.size() && !directory_path.empty(); ++i) {
    if (::stat((directory_path + names[i]).c_str(), &info) != 0) continue;
    auto read = read_text_file(directory_path + names[i]);
    if (!read) return read.error();
    beside[i] = *std::move(read);
  }
  return parse(*json, beside[0], file, beside[1], beside[2]);
}

QLIB_INLINE result<tokenizer> tokenizer::parse(std::string_view tokenizer_json, std::string_view config_json, const std::string& where,
                                               std::string_view special_tokens_map_json, std::string_view added_tokens_json) {
  auto parts = text::read_tokenizer_json(tokenizer_json, where);
  if (!parts) return std::move(parts).error();
  const std::size_t slash = where.rfind('/');
  const std::string folder = slash == where.npos ? "" : where.substr(0, slash + 1);
  if (status s = text::apply_side_files({config_json, special_tokens_map_json, added_tokens_json}, folder, *parts); !s) return std::move(s).error();
  tokenizer made;
  made.parts_ = std::make_shared<text::tokenizer_parts>(*std::move(parts));
  return made;
}

namespace text::detail {

/// Appends the ids of the pieces of `work.pieces`.
template <class Work>
void encode_pieces(const tokenizer_parts& parts, Work& work, std::vector<token_id>& out) {
  for (const extent part : work.pieces.parts) {
    const std::string_view piece = std::string_view{work.pieces.text}.substr(part.begin, part.size());
    const bool cached = piece.size() <= piece_cache::longest_piece;
    std::size_t place = 0;
    if (cached) {
      place = work.cache.place_of(piece);
      if (const auto ids = work.cache.ids_at(place); !ids.empty()) {
        out.insert(out.end(), ids.begin(), ids.end());
        continue;
      }
    }
    const std::size_t first = out.size();
    if (const auto* m = std::get_if<bpe>(&parts.model)) m->encode(piece, parts.words, work.bpe, out);
    else if (const auto* u = std::get_if<unigram>(&parts.model)) u->encode(piece, parts.words, work.unigram, out);
    else if (const auto* w = std::get_if<word_piece>(&parts.model)) w->encode(piece, parts.words, out);
    else std::get<word_level>(parts.model).encode(piece, parts.words, out);
    if (cached) work.cache.store(place, piece, std::span{out}.subspan(first));
  }
}

}  // namespace text::detail

QLIB_INLINE result<std::vector<std::int32_t>> tokenizer::encode(std::string_view text, bool add_special) const {
  std::string repaired;
  if (first_invalid_utf8(text)) text = repaired = text::valid_utf8(text);
  workspaces::lease lease{*workspaces_};
  workspace& work = *lease;
  const text::tokenizer_parts& parts = *parts_;
  std::vector<std::int32_t> out;
  if (add_special) out = parts.prefix;
  work.raw.clear();
  parts.raw_tokens.split(text, work.raw);
  for (const text::segment& segment : work.raw) {
    if (segment.id != text::no_token) {
      out.push_back(segment.id);
      continue;
    }
    std::size_t first = segment.part.begin == 0 ? text::character_at(text, 0).length : 0;
    const std::string normal =
        text::normalized(std::string{text.substr(segment.part.begin, segment.part.size())}, parts.normalizer, work.regex, &first);
    work.normal.clear();
    parts.normalized_tokens.split(normal, work.normal);
    for (const text::segment& inner : work.normal) {
      if (inner.id != text::no_token) {
        out.push_back(inner.id);
        continue;
      }
      work.pieces.text.assign(normal, inner.part.begin, inner.part.size());
      text::split_into_pieces(work.pieces, first - std::min(first, inner.part.begin), parts.stages, work.regex);
      text::detail::encode_pieces(parts, work, out);
    }
  }
  if (add_special) out.insert(out.end(), parts.suffix.begin(), parts.suffix.end());
  if (!work.regex.failure().empty()) {
    const std::string problem = "the tokenizer gave up at " + work.regex.failure();
    work.regex.forget_failure();
    return error{error_kind::invalid_input, {}, {}, problem, "cut the text into smaller ones"};
  }
  if (std::find(out.begin(), out.end(), text::missing_token) != out.end())
    return error{error_kind::invalid_input,
                 {},
                 {},
                 "the tokenizer has neither a token for every character of the text nor an unknown token",
                 "leave the text out"};
  return out;
}

QLIB_INLINE result<std::string> tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  if (!parts_->decoder_problem.empty()) return error{error_kind::invalid_input, {}, {}, parts_->decoder_problem, {}};
  std::unordered_map<std::int32_t, const text::added_token*> added;
  for (const text::added_token& t : parts_->added) added.emplace(t.id, &t);
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const std::int32_t id : ids) {
    const auto at = added.find(id);
    if (!parts_->contains(id) || (skip_special && at != added.end() && at->second->special)) continue;
    tokens.push_back(at != added.end() ? at->second->shown : parts_->content_of(id));
  }
  workspaces::lease lease{*workspaces_};
  return text::decoded(std::move(tokens), parts_->decoder, (*lease).regex);
}

QLIB_INLINE std::size_t tokenizer::vocab_size() const { return parts_->size(); }

QLIB_INLINE std::optional<std::int32_t> tokenizer::id_of(std::string_view token) const {
  const text::token_id id = parts_->id_of(token);
  return id == text::no_token ? std::nullopt : std::optional{id};
}

QLIB_INLINE std::string tokenizer::token_of(std::int32_t id) const { return id < 0 ? std::string{} : parts_->content_of(id); }

QLIB_INLINE std::span<const std::int32_t> tokenizer::prefix() const { return parts_->prefix; }
QLIB_INLINE std::span<const std::int32_t> tokenizer::suffix() const { return parts_->suffix; }
QLIB_INLINE bool tokenizer::has_chat_template() const { return parts_->has_chat_template; }

}  // namespace qlib::inline v0
