#pragma once
#include <qlib/tokenizer/side_tokens.ipp>
#include <qlib/tokenizer/tokenizer_json.hpp>
#include <qlib/tokenizer/tokenizer_reading.ipp>

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

namespace qlib::inline v0 {
namespace text {

namespace detail {

/// A file of a tokenizer that is a JSON object; null for an empty text.
inline result<json> read_side_file(std::string_view text, const std::string& file) {
  if (text.empty()) return json{};
  auto j = json::parse(text.begin(), text.end(), nullptr, false);
  if (!j.is_object()) return error{error_kind::invalid_input, file, {}, "is not a JSON object", "download the file again"};
  return j;
}

/// Old checkpoints say their special tokens in special_tokens_map.json. It counts where tokenizer_config.json has no added_tokens_decoder.
inline void join_special_tokens(json& config, const json& map) {
  if (!map.is_object() || config.contains("added_tokens_decoder")) return;
  for (const auto& [key, value] : map.items()) {
    if (value.is_array()) {
      json all = config.contains(key) && config[key].is_array() ? config[key] : json::array();
      for (const json& t : value)
        if (std::find(all.begin(), all.end(), t) == all.end()) all.push_back(t);
      config[key] = std::move(all);
      continue;
    }
    config[key] = value;
    if (value.is_object()) config[key]["special"] = true;
  }
}

}  // namespace detail

QLIB_INLINE status apply_side_files(const side_files& files, const std::string& folder, tokenizer_parts& parts) {
  auto read = detail::read_side_file(files.config, folder + "tokenizer_config.json");
  if (!read) return std::move(read).error();
  const auto map = detail::read_side_file(files.special_tokens_map, folder + "special_tokens_map.json");
  if (!map) return map.error();
  const auto added = detail::read_side_file(files.added_tokens, folder + "added_tokens.json");
  if (!added) return added.error();
  if (read->is_null() && map->is_null() && added->is_null()) return {};
  nlohmann::json config = read->is_null() ? nlohmann::json::object() : *std::move(read);
  detail::join_special_tokens(config, *map);
  const std::string name = detail::text_of(config, "tokenizer_class");
  const bool llama = name.starts_with("Llama") || name.starts_with("CodeLlama");
  if (status s = detail::add_side_tokens(config, files.config, *added, llama, folder, parts); !s) return s;
  const auto content_of = [&](const char* key, const char* otherwise) {
    return config.contains(key) ? detail::special_token(detail::member(config, key)).content : std::string{otherwise};
  };
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
  if (parts.byte_level_alone && !files.config.empty()) {
    std::erase_if(parts.stages, [](const pre_tokenizer_stage& s) { return std::holds_alternative<prefix_space_stage>(s); });
    if (detail::flag_of(config, "add_prefix_space", false)) parts.stages.emplace(parts.stages.begin(), prefix_space_stage{});
  }
  follow("add_bos_token", parts.bos, parts.prefix, true);
  follow("add_eos_token", parts.eos, parts.suffix, false);
  return {};
}

}  // namespace text
}  // namespace qlib::inline v0
