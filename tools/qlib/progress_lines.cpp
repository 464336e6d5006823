#include "progress_lines.hpp"

#include "command.hpp"
#include "process_memory.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include <unistd.h>

namespace qlib::program {

namespace {

/// "model.layers.3" of "model.layers.3.mlp.up_proj".
std::string_view layer_of(std::string_view name) {
  for (std::size_t i = 0; i + 1 < name.size(); ++i)
    if (name[i] == '.' && name[i + 1] >= '0' && name[i + 1] <= '9') return name.substr(0, name.find('.', i + 1));
  return name;
}

std::string peak_text() { return size_text(static_cast<double>(memory_of_process().peak)); }

}  // namespace

time_left::time_left(const quantization_plan& plan) {
  for (const work_item& i : plan.items)
    kinds_[i.raw].bytes += static_cast<double>(i.rows) * (i.raw ? 1.0 : static_cast<double>(i.cols * bits_of(i.type)) / 8);
}

double time_left::after(const progress& p) {
  constexpr double made_to_copied = 3;  // before one of a kind was seen
  const double now = watch_.seconds();
  work& kind = kinds_[p.copied];
  (p.resumed ? kind.resumed : kind.done) += static_cast<double>(p.chunk_bytes);
  kind.seconds += now - std::exchange(last_, now);
  const auto rate = [](const work& w) { return w.done > 0 ? w.seconds / w.done : 0; };
  double made = rate(kinds_[0]), copied = rate(kinds_[1]);
  if (kinds_[0].done == 0) made = copied * made_to_copied;
  if (kinds_[1].done == 0) copied = made / made_to_copied;
  const auto left = [](const work& w) { return std::max(0.0, w.bytes - w.done - w.resumed); };
  return left(kinds_[0]) * made + left(kinds_[1]) * copied;
}

progress_line::progress_line(const quantization_plan& plan, bool quiet) : quiet_{quiet}, terminal_{isatty(STDERR_FILENO) == 1}, left_{plan} {
  for (const work_item& item : plan.items) ++left_in_layer_[std::string{layer_of(item.name)}];
  layers_ = left_in_layer_.size();
}

void progress_line::operator()(const progress& p) {
  if (quiet_) return;
  const double seconds = watch_.seconds(), eta = left_.after(p);
  const double rate = seconds > 0 ? static_cast<double>(p.input_bytes_done - p.input_bytes_resumed) / seconds : 0;
  std::size_t& left = left_in_layer_[std::string{layer_of(p.item)}];
  const bool layer_done = p.item_finished && --left == 0;
  layers_done_ += layer_done;
  if (terminal_) {
    if (p.items_done < p.items && seconds - drawn_ < 0.1) return;
    drawn_ = seconds;
    std::string text = fmt::format("layer {}/{}  {}/{} tensors  {}/s  ETA {:.0f}s  {}  {}", layers_done_, layers_, p.items_done, p.items,
                                   size_text(rate), eta, peak_text(), p.item);
    if (text.size() > 78) text.resize(78);
    fmt::print(stderr, "\r\x1b[K{}", text);
    if (p.items_done == p.items) fmt::print(stderr, "\r\x1b[K");
  } else {
    if (!layer_done) return;
    fmt::print(stderr, "qlib: {}/{} {} {}/s eta {:.0f}s {}\n", p.items_done, p.items, layer_of(p.item), size_text(rate), eta, peak_text());
  }
  std::fflush(stderr);
}

calibration_line::calibration_line(bool quiet) : quiet_{quiet}, terminal_{isatty(STDERR_FILENO) == 1} {}

void calibration_line::operator()(const calibration_progress& p) {
  if (quiet_) return;
  if (p.layers_done <= last_) began_ = now_;  // another pass
  last_ = p.layers_done;
  now_ = watch_.seconds();
  if (p.work_before > 0 && !std::exchange(told_, true)) fmt::print(stderr, "qlib: the interrupted calibration goes on at layer {}\n", p.layers_done);
  const double done = p.work_done - p.work_before, eta = done > 0 ? (now_ - began_) / done * (1 - p.work_done) : 0;
  const std::string peak = peak_text();
  if (terminal_) fmt::print(stderr, "\r\x1b[Kcalibrating layer {}/{}  ETA {:.0f}s  {}", p.layers_done, p.layers, eta, peak);
  else fmt::print(stderr, "qlib: calibrated layer {}/{} eta {:.0f}s {}\n", p.layers_done, p.layers, eta, peak);
  if (terminal_ && p.layers_done == p.layers) fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
}

}  // namespace qlib::program
