/// What of run.hpp is asked and done before a run: its target, and what an earlier run left there. Part of run.ipp.
#pragma once
#include <qlib/io/file.hpp>
#include <qlib/io/output_file.hpp>
#include <qlib/io/safetensors.hpp>
#include <qlib/pipeline/run.hpp>
#include <qlib/pipeline/run_settings.hpp>
#include <qlib/pipeline/work_folder.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

namespace qlib::inline v0 {

namespace detail {

inline constexpr const char* journal_name = "/.qlib-journal";
inline constexpr const char* boot_name = "/.qlib-boot";
inline constexpr const char *calibration_name = "/.qlib-calibration", *pass_name = "/.qlib-pass", *second_pass_name = "/.qlib-pass-2";

/// Whether the run of this plan was killed after its commit: all files are there with their headers.
inline bool is_complete(const quantization_plan& plan, const std::string& folder) {
  std::error_code ec;
  const auto is_there = [&](const planned_file& f) {
    if (std::filesystem::file_size(folder + "/" + f.name, ec) != f.bytes || ec) return false;
    auto file = mmap_file::open(folder + "/" + f.name);
    return file && std::memcmp(file->bytes().data(), f.header.data(), f.header.size()) == 0;
  };
  if (!std::all_of(plan.files.begin(), plan.files.end(), is_there)) return false;
  if (plan.rotation_file && !is_there(*plan.rotation_file)) return false;
  for (const document& d : plan.documents) {
    const auto text = read_text_file(folder + "/" + d.name);
    if (!text || *text != d.text) return false;
  }
  return true;
}

/// The same of a result whose files the plan does not tell yet. That it was committed its settings say; nothing was taken from it since.
inline bool is_whole(const quantization_plan& plan, const std::string& folder) {
  std::error_code ec;
  std::size_t weights = 0;
  for (const auto& entry : std::filesystem::directory_iterator{folder, ec}) {
    if (entry.path().extension() != ".safetensors") continue;
    safetensors_file file;
    if (!safetensors_file::open(entry.path().string(), file).empty()) return false;
    ++weights;
  }
  return weights > 0 && std::all_of(plan.documents.begin(), plan.documents.end(),
                                    [&](const document& d) { return std::filesystem::exists(folder + "/" + d.name, ec); });
}

/// Whether the run of this plan was committed, as far as `resume` can tell.
inline bool is_complete(const quantization_plan& plan, const run_options& options) {
  if (!options.open_plan) return is_complete(plan, options.save_path);
  return options.settings && load_settings(options.save_path) && is_whole(plan, options.save_path);
}

/// Whether `inner` is `outer` or lies below it, links resolved.
inline bool lies_in(const std::filesystem::path& inner, const std::filesystem::path& outer) {
  std::error_code ec;
  const auto in = std::filesystem::weakly_canonical(inner, ec), out = std::filesystem::weakly_canonical(outer, ec);
  return std::mismatch(out.begin(), out.end(), in.begin(), in.end()).first == out.end();
}

/// A folder on another file system than the one it stands in: nothing can be renamed to it.
inline bool is_mount_point(const std::filesystem::path& folder) {
  struct stat own {
  }, parent{};
  return ::stat(folder.c_str(), &own) == 0 && ::stat((folder / "..").c_str(), &parent) == 0 && own.st_dev != parent.st_dev;
}

/// An error that names the settings of the interrupted or complete run in `folder` which are not those of `options`.
inline std::optional<error> other_settings(const run_options& options, const std::string& folder, bool complete) {
  if (!options.settings) return std::nullopt;
  const auto then = load_settings(folder);
  if (!then) return std::nullopt;
  const std::vector<std::string> changed = changed_settings(*then, complete ? settings_of_result(*options.settings) : *options.settings);
  if (changed.empty()) return std::nullopt;
  constexpr std::size_t most = 3;
  std::string text;
  for (std::size_t i = 0; i < changed.size() && i < most; ++i) text += (i == 0 ? "" : "; ") + changed[i];
  if (changed.size() > most) text += "; and " + std::to_string(changed.size() - most) + " more";
  return error{
      .where = folder,
      .problem = (complete ? "is complete, but inputs or flags changed since: " : "the inputs or flags changed since the run began: ") + text,
      .remedy = complete ? "choose another --save_path, or replace it with --overwrite"
                         : "repeat the first command with --resume, or start again with --overwrite"};
}

/// A file that is copied to the result when all weights are made: it has to be readable before.
inline std::optional<error> unreadable_file(const std::filesystem::path& path) {
  std::error_code ec;
  if (::access(path.c_str(), R_OK) == 0) return std::nullopt;
  const std::string why = std::error_code{errno, std::generic_category()}.message();
  const auto target = std::filesystem::read_symlink(path, ec);
  return error{.where = path.string(),
               .problem = "is copied to the result, but cannot be read: " + why + (ec ? "" : " (a link to " + target.string() + ")"),
               .remedy = "download the file again, change its permissions, or remove it from the model's folder"};
}

/// Weights, a rotation, documents and what is copied.
inline std::uint64_t needed_bytes(const quantization_plan& plan, const run_options& options) {
  std::uint64_t bytes = plan.output_bytes + (plan.rotation_file ? plan.rotation_file->bytes : 0);
  for (const document& d : plan.documents) bytes += d.text.size();
  std::error_code ec;
  for (const std::string& name : options.copied_files) {
    const std::uintmax_t size = std::filesystem::file_size(options.model_path + "/" + name, ec);
    if (!ec) bytes += size;
  }
  return bytes;
}

}  // namespace detail

QLIB_INLINE std::string work_folder_of(const std::string& save_path) {
  std::string path = save_path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path + ".qlib-partial";
}

QLIB_INLINE std::string stored_calibration_of(const std::string& save_path) { return work_folder_of(save_path) + detail::calibration_name; }

QLIB_INLINE std::string kept_pass_of(const std::string& save_path, bool second) {
  return work_folder_of(save_path) + (second ? detail::second_pass_name : detail::pass_name);
}

QLIB_INLINE void forget_pass(const std::string& save_path) {
  std::error_code ec;
  const std::string work = work_folder_of(save_path), settings = settings_file_of(work);
  for (const char* name : {detail::pass_name, detail::second_pass_name})
    for (const std::string& file : {work + name, unfinished_name(work + name)}) std::filesystem::remove(file, ec);
  for (const auto& entry : std::filesystem::directory_iterator{work, ec})
    if (entry.path() != settings) return;
  std::filesystem::remove(settings, ec);
  std::filesystem::remove(work, ec);
}

QLIB_INLINE result<held_folder> begin_run(const run_options& options) {
  namespace fs = std::filesystem;
  const std::string work = work_folder_of(options.save_path);
  std::error_code ec;
  auto held = held_folder::take(work);
  if (!held) return held;
  if (options.resume) {
    if (auto other = detail::other_settings(options, work, false)) return *std::move(other);
  } else {  // what is in it, but not the folder that is held
    for (const fs::directory_entry& old : fs::directory_iterator{work, ec}) fs::remove_all(old.path(), ec);
  }
  if (options.settings)
    if (status s = store_settings(*options.settings, work); !s) return std::move(s).error();
  return held;
}

QLIB_INLINE bool nothing_left(const quantization_plan& plan, const run_options& options) {
  std::error_code ec;
  return options.resume && !std::filesystem::exists(work_folder_of(options.save_path) + detail::journal_name, ec) &&
         detail::is_complete(plan, options) && !detail::other_settings(options, options.save_path, true);
}

QLIB_INLINE errors check_target(const quantization_plan& plan, const run_options& options) {
  namespace fs = std::filesystem;
  errors found;
  std::error_code ec;
  fs::path target{options.save_path};
  if (!target.has_filename() && target.has_relative_path()) target = target.parent_path();  // "out/"
  const fs::file_status status_of_target = fs::status(target, ec);
  const std::string work = work_folder_of(options.save_path);
  if (options.save_path.empty()) return {{.where = "--save_path", .problem = "is empty", .remedy = "name the folder of the result"}};
  if (fs::is_symlink(fs::symlink_status(target, ec)))  // the result appears by a rename, which would replace the link or fail
    found.push_back({.where = options.save_path, .problem = "is a symbolic link", .remedy = "name the folder itself"});
  else if (fs::exists(status_of_target) && fs::equivalent(target, fs::current_path(ec), ec))
    found.push_back({.where = options.save_path, .problem = "is the current directory, which cannot be replaced", .remedy = "name a folder in it"});
  else if (fs::is_directory(status_of_target) && detail::is_mount_point(target))
    found.push_back({.where = options.save_path, .problem = "is a mount point, which cannot be replaced", .remedy = "name a folder in it"});
  if (!options.model_path.empty() && detail::lies_in(options.model_path, target))
    found.push_back(
        {.where = options.save_path, .problem = "is or holds the model that is quantized", .remedy = "choose another --save_path: it is replaced"});
  else if (!options.model_path.empty() && detail::lies_in(target, options.model_path))
    found.push_back({.where = options.save_path,
                     .problem = "lies in the folder of the model that is quantized",
                     .remedy = "choose another --save_path: who copies or reads the model would take the result for a part of it"});
  if (fs::exists(status_of_target)) {
    if (!fs::is_directory(status_of_target))
      found.push_back({.where = options.save_path, .problem = "exists and is not a directory", .remedy = "choose another --save_path"});
    else if (auto other = !options.resume || fs::exists(work, ec) ? std::nullopt : detail::other_settings(options, options.save_path, true))
      found.push_back(*std::move(other));
    else if (!fs::is_empty(target, ec) && !options.overwrite && !(options.resume && detail::is_complete(plan, options)))
      found.push_back(
          {.where = options.save_path, .problem = "is not empty", .remedy = "choose another --save_path, or replace it with --overwrite"});
  }
  for (const std::string& name : options.copied_files)
    if (options.model_path.empty()) break;
    else if (auto unreadable = detail::unreadable_file(fs::path{options.model_path} / name)) found.push_back(*std::move(unreadable));
  if (options.resume)
    if (auto other = detail::other_settings(options, work, false)) found.push_back(*std::move(other));
  if (fs::exists(work, ec) && held_folder::is_taken(work))
    found.push_back(
        {.where = work, .problem = "another run is using this work folder", .remedy = "wait for it or stop it, or choose another --save_path"});
  else if (!options.resume && fs::exists(work, ec) && !options.overwrite)
    found.push_back({.where = work, .problem = "an interrupted run is here", .remedy = "continue it with --resume, or discard it with --overwrite"});
  fs::path parent = fs::absolute(target, ec).parent_path();
  while (!fs::exists(parent, ec) && parent.has_parent_path() && parent != parent.parent_path()) parent = parent.parent_path();
  const bool writable = ::access(parent.c_str(), W_OK) == 0;
  if (!fs::is_directory(parent, ec))
    found.push_back({.where = parent.string(), .problem = "is not a directory", .remedy = "choose another --save_path"});
  else if (!writable)
    found.push_back({.where = parent.string(), .problem = "is not writable", .remedy = "choose another --save_path or change its permissions"});
  else if (status space = require_free_space(parent.string(), options.resume && fs::exists(work, ec) ? 0 : detail::needed_bytes(plan, options));
           !space)
    found.push_back(space.error());
  return found;
}

}  // namespace qlib::inline v0
