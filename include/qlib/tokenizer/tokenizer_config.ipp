#pragma once
#include <qlib/tokenizer/tokenizer_json.hpp>
#include <qlib/tokenizer/tokenizer_reading.ipp>

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {
namespace text {

QLIB_INLINE status apply_tokenizer_config(std::string_view text, const std::string& where, tokenizer_parts& parts) {
  const auto config = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  if (!config.is_object()) return error{error_kind::invalid_input, where, {}, "is not a JSON object", "download the file again"};
  const std::string name = detail::text_of(config, "tokenizer_class");
  const bool llama = name.starts_with("Llama") || name.starts_with("CodeLlama");
  const auto content_of = [&](const char* key, const char* otherwise) {
    if (!config.contains(key)) return std::string{otherwise};
    const auto& j = detail::member(config, key);
    return j.is_object() ? detail::text_of(j, "content") : detail::text_of(config, key);
  };
  // Special tokens that nobody knows become new ones, in this order; the Llama classes have defaults.
  bool grown = false;
  constexpr std::pair<const char*, const char*> kinds[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"sep_token", ""},
                                                           {"pad_token", ""},    {"cls_token", ""},     {"mask_token", ""}};
  for (const auto& [key, otherwise] : kinds) {
    added_token t;
    t.content = content_of(key, llama ? otherwise : "");
    if (t.content.empty() || parts.id_of(t.content) != no_token) continue;
    t.id = parts.next_id();
    t.special = grown = true;
    parts.added_words.add(t.content, t.id);
    parts.added.push_back(std::move(t));
  }
  if (grown) parts.find_added_tokens();
  const auto token = [&](const char* key, const char* otherwise) { return parts.id_of(content_of(key, llama ? otherwise : "")); };
  parts.bos = token("bos_token", "<s>");
  parts.eos = token("eos_token", "</s>");
  const auto& chat = detail::member(config, "chat_template");
  parts.has_chat_template = chat.is_string() || chat.is_array();

  const bool from_flags = llama || name.starts_with("Gemma");
  const auto follow = [&](const char* key, token_id id, std::vector<token_id>& ids, bool front) {
    const auto& flag = detail::member(config, key);
    if (!flag.is_boolean() || id == no_token) return;
    const bool there = std::find(ids.begin(), ids.end(), id) != ids.end();
    if (flag.get<bool>() && !there) ids.insert(front ? ids.begin() : ids.end(), id);
    if (!flag.get<bool>() && there && from_flags) std::erase(ids, id);
  };
  if (parts.byte_level_alone) {
    std::erase_if(parts.stages, [](const pre_tokenizer_stage& s) { return std::holds_alternative<prefix_space_stage>(s); });
    if (detail::flag_of(config, "add_prefix_space", false)) parts.stages.emplace(parts.stages.begin(), prefix_space_stage{});
  }
  follow("add_bos_token", parts.bos, parts.prefix, true);
  follow("add_eos_token", parts.eos, parts.suffix, false);
  return {};
}

}  // namespace text
}  // namespace qlib::inline v0
