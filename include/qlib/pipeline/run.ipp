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
#include <qlib/pipeline/run_target.ipp>
#include <qlib/pipeline/stored_calibration.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>

namespace qlib::inline v0 {

namespace detail {

inline constexpr std::uint64_t least_start = 256 << 10;  // bytes

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

/// The folder that names `path`.
inline std::string folder_of(const std::string& path) {
  std::error_code ec;
  std::filesystem::path at = std::filesystem::absolute(path, ec);
  if (!at.has_filename()) at = at.parent_path();
  return at.parent_path().string();
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
  if (status s = replace_file(work + detail::boot_name, detail::boot_of_machine(), false); !s) return std::move(s).error();
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
  std::set<fs::path> folders;  // below the result
  for (const std::string& name : options.copied_files) {
    if (const fs::path folder = fs::path{name}.parent_path(); !folder.empty() && folders.insert(folder).second) {
      fs::create_directories(work / folder, ec);
      if (ec) return failed("cannot make the folder of " + name, ec);
    }
    fs::copy_file(fs::path{source.directory()} / name, fs::path{work} / name, fs::copy_options::overwrite_existing, ec);
    if (ec) return failed("cannot copy " + name, ec);
    report.files.push_back(name);
  }
  for (const document& d : plan.documents) {
    if (status s = replace_file(work + "/" + d.name, d.text, options.sync); !s) return std::move(s).error();
    report.files.push_back(d.name);
  }
  if (plan.rotation_file) {
    folders.insert(fs::path{plan.rotation_file->name}.parent_path());
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
    for (const fs::path& folder : folders)
      if (status s = sync_path((work / folder).string()); !s) return std::move(s).error();
  }
  for (const std::string& unneeded : {stored, unfinished_name(stored), work + detail::boot_name}) {  // all chunks are made, and on the disk
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
