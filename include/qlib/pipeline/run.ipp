#pragma once
#include <qlib/backend/device.hpp>
#include <qlib/core/buffer.hpp>
#include <qlib/core/work_queue.hpp>
#include <qlib/io/journal.hpp>
#include <qlib/io/output_file.hpp>
#include <qlib/pipeline/backend_worker.ipp>
#include <qlib/pipeline/chunk.hpp>
#include <qlib/pipeline/fingerprint.ipp>
#include <qlib/pipeline/rotation_file.hpp>
#include <qlib/pipeline/run.hpp>
#include <qlib/pipeline/stored_calibration.hpp>
#include <qlib/pipeline/work_folder.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include <sys/stat.h>
#include <unistd.h>

namespace qlib::inline v0 {

namespace detail {

inline constexpr std::uint64_t least_start = 256 << 10;  // bytes
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

/// Whether `inner` is `outer` or lies below it, links resolved.
inline bool lies_in(const std::filesystem::path& inner, const std::filesystem::path& outer) {
  std::error_code ec;
  const auto in = std::filesystem::weakly_canonical(inner, ec), out = std::filesystem::weakly_canonical(outer, ec);
  return std::mismatch(out.begin(), out.end(), in.begin(), in.end()).first == out.end();
}

/// Another value after every start of the machine; empty where there is none.
inline std::string boot_of_machine() {
  std::string boot;
  std::ifstream{"/proc/sys/kernel/random/boot_id"} >> boot;
  return boot;
}

/// Whether what a run had written to `work` was there for this machine ever since: no power failure came between.
inline bool same_boot(const std::string& work) {
  const auto then = read_text_file(work + boot_name);
  return !then || *then == boot_of_machine();
}

inline status write_small_file(const std::string& path, std::string_view text) {
  auto file = output_file::create(path, text.size());
  if (!file) return std::move(file).error();
  if (status s = file->write_at(0, std::as_bytes(std::span{text})); !s) return s;
  return file->close();
}

/// The folder that names `path`.
inline std::string folder_of(const std::string& path) {
  std::error_code ec;
  std::filesystem::path at = std::filesystem::absolute(path, ec);
  if (!at.has_filename()) at = at.parent_path();
  return at.parent_path().string();
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

/// `threads` workers that share the kernels of a CPU device.
inline worker_factory workers_on(const std::string& device, std::size_t threads) {
  return
      [=](const checkpoint& source, const quantization_plan& plan, const calibration* found) -> result<std::vector<std::unique_ptr<chunk_worker>>> {
        auto backend = backend_for_device(device);
        if (!backend) return std::move(backend).error();
        std::vector<std::unique_ptr<chunk_worker>> out;
        for (std::size_t i = 0; i < std::max<std::size_t>(1, threads); ++i)
          out.push_back(std::make_unique<backend_worker<native_backend>>(*backend, source, plan, found));
        return out;
      };
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
    for (const char* end : {"", ".tmp"}) std::filesystem::remove(work + name + end, ec);
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
         detail::is_complete(plan, options.save_path) && !detail::other_settings(options, options.save_path, true);
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
    else if (!fs::is_empty(target, ec) && !options.overwrite && !(options.resume && detail::is_complete(plan, options.save_path)))
      found.push_back(
          {.where = options.save_path, .problem = "is not empty", .remedy = "choose another --save_path, or replace it with --overwrite"});
  }
  if (options.resume)
    if (auto other = detail::other_settings(options, work, false)) found.push_back(*std::move(other));
  if (!options.resume && fs::exists(work, ec) && !options.overwrite)
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

QLIB_INLINE result<run_report> run_plan(const checkpoint& source, const quantization_plan& plan, const run_options& options) {
  namespace fs = std::filesystem;
  const std::string work = work_folder_of(options.save_path);
  std::error_code ec;
  if (nothing_left(plan, options)) {
    fs::remove(options.save_path + detail::journal_name, ec);
    run_report complete;
    complete.chunks = complete.resumed_chunks = cut_into_chunks(plan).size();
    return complete;
  }
  const worker_factory made = options.workers ? options.workers : detail::workers_on(options.device, options.threads);
  auto workers = made(source, plan, options.found);
  if (!workers) return std::move(workers).error();
  const auto failed = [&](std::string what, const std::error_code& why) {
    return error{.kind = error_kind::run_failed,
                 .where = work,
                 .problem = std::move(what) + ": " + why.message(),
                 .remedy = "mend it and rerun with --resume"};
  };
  const auto held = begin_run(options);
  if (!held) return held.error();
  auto log = journal::open(work + detail::journal_name, detail::fingerprint_of(plan, options.found), options.resume && detail::same_boot(work));
  if (!log) return std::move(log).error();
  if (status s = detail::write_small_file(work + detail::boot_name, detail::boot_of_machine()); !s) return std::move(s).error();
  const std::string stored = work + detail::calibration_name;
  if (options.found && options.keep_found)
    if (status s = store_calibration(*options.found, *options.keep_found, stored); !s) return std::move(s).error();
  if (options.found) forget_pass(options.save_path);

  // Chunks are marked as finished when their bytes are written: a file that is not whole has lost some.
  bool whole = true;
  std::vector<output_file> files;
  for (const planned_file& f : plan.files) {
    whole &= fs::file_size(work + "/" + f.name, ec) == f.bytes && !ec;
    auto file = output_file::create(work + "/" + f.name, f.bytes);
    if (!file) return std::move(file).error();
    if (status s = file->write_at(0, std::as_bytes(std::span{f.header})); !s) return std::move(s).error();
    files.push_back(*std::move(file));
  }

  const std::vector<chunk> chunks = cut_into_chunks(plan);
  std::vector<char> done(chunks.size());
  run_report report;
  report.chunks = chunks.size();
  if (whole && !options.measure_error)  // figures cover all chunks: a resumed run that wants them makes all again
    for (const journal::entry& e : log->finished())
      if (e.item < done.size()) {
        done[e.item] = 1;
        ++report.resumed_chunks;
      }

  std::vector<std::size_t> left(plan.items.size());
  for (const chunk& c : chunks) ++left[c.item];
  std::vector<detail::error_sums> sums(options.measure_error ? chunks.size() : 0);
  progress state;
  state.items = plan.items.size();
  state.input_bytes = plan.input_bytes;
  std::mutex mutex;
  std::optional<error> first_error, lost;
  std::map<std::size_t, std::set<std::string>> paths_of;  // by item
  const queue_end end =
      run_queue(chunks.size(), std::max<std::size_t>(1, std::min(workers->size(), chunks.size())), [&](std::size_t index, std::size_t task) {
        const chunk& c = chunks[task];
        const work_item& item = plan.items[c.item];
        chunk_worker& worker = *(*workers)[index];
        if (!done[task]) {
          const auto emit = [&](std::size_t slot, std::uint64_t offset, std::span<const std::byte> bytes) -> status {
            if (options.discard_output) return worker.keep(bytes);
            const output_file& file = files[plan.slots[slot].file];
            const std::uint64_t at = plan.slots[slot].offset + offset;
            status s = file.write_at(at, bytes);
            // The disk works while the next chunks are made. Scales of neighbouring chunks share pages, which would be written again and again.
            if (s && options.sync && bytes.size() >= detail::least_start) file.start_sync(at, bytes.size());
            return s;
          };
          status s = worker.make(c, emit, options.measure_error ? &sums[task] : nullptr);
          worker.release(c);
          if (!s && worker.lost()) {
            const std::lock_guard lock{mutex};
            report.warnings.push_back(s.error().text() + ": its work went to the others");
            lost = std::move(s).error();
            return task_outcome::lost;
          }
          if (s) s = log->append({task, 0});
          if (std::vector<std::string> paths = worker.take_paths(); s && !paths.empty()) {
            const std::lock_guard lock{mutex};
            paths_of[c.item].insert(paths.begin(), paths.end());
          }
          if (!s) {
            const std::lock_guard lock{mutex};
            if (!first_error) first_error = std::move(s).error();
            return task_outcome::stop;
          }
        }
        const std::lock_guard lock{mutex};
        state.chunk_bytes = item.raw ? c.rows : c.rows * item.cols * bits_of(item.type) / 8;
        state.copied = item.raw;
        state.resumed = done[task];
        state.input_bytes_done += state.chunk_bytes;
        if (state.resumed) state.input_bytes_resumed += state.chunk_bytes;
        state.item = item.name;
        state.item_finished = --left[c.item] == 0;
        if (state.item_finished) ++state.items_done;
        if (options.on_progress) options.on_progress(state);
        return task_outcome::done;
      });
  if (end == queue_end::no_worker) {
    lost->remedy = "no device is left; the work folder stays: rerun with --resume";
    return *std::move(lost);
  }
  if (end == queue_end::stopped) {
    if (first_error->kind == error_kind::invalid_input) fs::remove_all(work, ec);
    return *std::move(first_error);
  }
  if (options.discard_output) {
    fs::remove_all(work, ec);
    return report;
  }
  std::size_t at = 0;
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    detail::error_sums total;
    for (; at < chunks.size() && chunks[at].item == i; ++at)
      if (options.measure_error) total.add(sums[at]);
    if (!plan.items[i].encoding) continue;
    std::string path;
    for (const std::string& line : paths_of[i]) path += (path.empty() ? "" : "; ") + line;
    report.layers.push_back({plan.items[i].name, plan.items[i].encoding->quant_type, total.total(), std::move(path)});
  }

  for (output_file& f : files) {
    status s = options.sync ? f.sync() : status{};
    if (s) s = f.close();
    if (s) continue;
    fs::remove(work + detail::journal_name, ec);  // its chunks may be lost: a resumed run makes them again
    return std::move(s).error();
  }
  for (const std::string& name : options.copied_files) {
    fs::copy_file(fs::path{source.directory()} / name, fs::path{work} / name, fs::copy_options::overwrite_existing, ec);
    if (ec) return failed("cannot copy " + name, ec);
    report.files.push_back(name);
  }
  for (const document& d : plan.documents) {
    if (status s = detail::write_small_file(work + "/" + d.name, d.text); !s) return std::move(s).error();
    report.files.push_back(d.name);
  }
  if (plan.rotation_file) {
    fs::create_directories((fs::path{work} / plan.rotation_file->name).parent_path(), ec);
    if (ec) return failed("cannot make the folder of " + plan.rotation_file->name, ec);
    if (status s = write_rotation(*plan.rotation, *plan.rotation_file, work); !s) return std::move(s).error();
    report.files.push_back(plan.rotation_file->name);
  }
  for (const planned_file& f : plan.files) report.files.push_back(f.name);

  if (options.settings) {
    if (status s = store_settings(settings_of_result(*options.settings), work); !s) return std::move(s).error();
    report.files.push_back(fs::path{settings_file_of(work)}.filename().string());
  }
  if (options.sync) {
    for (const std::string& name : report.files)
      if (status s = sync_path(work + "/" + name); !s) return std::move(s).error();
    if (plan.rotation_file)
      if (status s = sync_path(fs::path{work + "/" + plan.rotation_file->name}.parent_path().string()); !s) return std::move(s).error();
  }
  for (const std::string& unneeded : {stored, stored + ".tmp", work + detail::boot_name}) {  // all chunks are made, and on the disk
    fs::remove(unneeded, ec);
    if (ec) return failed("cannot remove " + unneeded, ec);
  }
  if (options.sync)
    if (status s = sync_path(work); !s) return std::move(s).error();
  const std::string target = options.save_path;
  const std::string old = work + ".old";
  if (fs::exists(target, ec) && !fs::is_empty(target, ec)) fs::rename(target, old, ec);
  if (ec) return failed("cannot move the old " + target + " away", ec);
  fs::rename(work, target, ec);
  if (ec) return failed("cannot rename to " + target, ec);
  if (options.sync)
    if (status s = sync_path(detail::folder_of(target)); !s) return std::move(s).error();
  // The journal goes last: killed before the rename, the folder can be resumed; killed after it, the result is complete.
  fs::remove(target + detail::journal_name, ec);
  fs::remove_all(old, ec);
  return report;
}

}  // namespace qlib::inline v0
