/// Texts and token ids that users have, as samples for calibration.
#pragma once
#include <qlib/core/status.hpp>
#include <qlib/tokenizer/tokenizer.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qlib::inline v0 {

/// One text, or ids that are ready, of a file.
struct text_record {
  std::size_t number = 0;  ///< line of a .jsonl, element of a JSON list; from 1
  std::string key;         ///< where the text was; empty for a JSON string and for plain text
  std::string text;
  std::vector<std::int32_t> ids;  ///< of the keys `input_ids` and `ids`
  bool has_ids = false;
};

struct text_records {
  std::string unit;  ///< "line", "element", or "text" for plain text, which is one record
  std::vector<text_record> records;
  std::vector<std::string> warnings;
};

/// Reads a .jsonl (an object or a string a line), a .json (a list of them, or lines), or plain text, which is any other file that does not
/// begin with a JSON object.
///
/// The first key that a record has counts, in this order: `inputs_pretokenized` (msModelSlim), `text`, `prompt`, `content`, `question`,
/// `messages`, `conversations`, `input_ids`, `ids`. Messages are joined by line feeds, roles left out: no chat template is run, as
/// msModelSlim does not for language models; a warning says so when `template_exists`. Ids lose the positions that `attention_mask` beside
/// them marks with 0. A null is no key. Blank lines are passed over.
///
/// Errors: a file that is not UTF-8, with the first byte that is not. Others name the line, at most 20 of them and then how many more there are;
/// `out` changes only when there is none.
errors read_text_records(const std::string& path, bool template_exists, text_records& out);

struct calibration_options {
  std::size_t samples = 0;                          ///< at most so many; 0: all
  std::size_t length = 0;                           ///< tokens a sample at most; 0: records whole, windows of 2048 or the model's maximum
  std::string_view length_flag = "--calib_length";  ///< what errors call `length`
  bool cut_slightly_longer = false;                 ///< texts up to 1/64 longer than the model allows are cut, with a warning
  std::optional<std::uint64_t> seed{};              ///< shuffles records, windows or rows before the first `samples` are taken; without: file order
};

/// What the model can take; 0 is unknown.
struct sequence_limits {
  std::size_t vocab_size = 0;
  std::size_t max_length = 0;  ///< max_position_embeddings
};

/// What became of a file, for the report.
struct calibration_report {
  std::string file, kind;     ///< kind: "records", "windows of plain text" or "ids"
  std::string key;            ///< of the first record
  std::size_t available = 0;  ///< records, windows or rows in the file
  std::size_t samples = 0, tokens = 0, shortest = 0, longest = 0;
  std::size_t truncated = 0;       ///< samples cut at `length`
  std::size_t dropped_tokens = 0;  ///< cut off, or after the last whole window
  std::size_t empty = 0;           ///< records without a token, left out
  std::optional<std::uint64_t> seed{};
  std::vector<std::string> warnings;

  /// One line: "128 samples, 262144 tokens (2048 to 2048 each) of 512 records of calib.jsonl, key text; 17 truncated ...".
  std::string text() const;
};

struct calibration_data {
  std::vector<std::vector<std::int32_t>> samples;
  calibration_report report;
};

/// Tokenizes a file of texts. Each sample has what the tokenizer's post-processor adds (the beginning-of-text token carries massive
/// activations: without it static ranges shift); records with ready ids are taken as they are.
///
/// Plain text is packed: ids of the whole text, cut into windows of `length` with the added tokens around each, and what remains after the
/// last whole window dropped; a text shorter than one window is one sample. Records longer than `length` are truncated at the end.
///
/// Errors: those of `read_text_records`; no record at all; ids that the model's vocabulary does not have; samples longer than the model
/// allows, which names line, tokens, limit and flag. `out` changes only when there is none.
errors load_calibration_texts(const std::string& path, const tokenizer& words, const calibration_options& options, const sequence_limits& limits,
                              calibration_data& out);

/// Reads token ids of a safetensors file: the tensor `ids` (or `input_ids`, or the only one), I32 or I64 of shape [samples, length]; or one
/// tensor a sample, `ids.0`, `ids.1`, ..., for samples of different lengths.
///
/// `attention_mask` (`attention_mask.0`, ...) beside them, BOOL or whole numbers of the same shape, is 1 for tokens and 0 for padding, which is
/// dropped: what is left begins at position 0. A zero between ones is an error that names sample and position.
errors load_calibration_ids(const std::string& path, const calibration_options& options, const sequence_limits& limits, calibration_data& out);

/// The order in which `count` things are taken: 0, 1, ... without a seed; else Fisher-Yates from the last place down, its j the next value
/// of splitmix64 that begins at `seed`, modulo the places left. The same on every machine.
std::vector<std::size_t> sampling_order(std::size_t count, std::optional<std::uint64_t> seed);

}  // namespace qlib::inline v0

#if !defined(QLIB_COMPILED)
#include <qlib/model/calibration_data.ipp>
#endif
