#include "progress_lines.hpp"

#include "process_memory.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace qlib::program {

namespace {

/// "model.layers.3" of "model.layers.3.mlp.up_proj"; nothing for "model.norm.weight".
std::optional<std::string_view> layer_of(std::string_view name) {
  for (std::size_t i = 0; i + 1 < name.size(); ++i)
    if (name[i] == '.' && name[i + 1] >= '0' && name[i + 1] <= '9') return name.substr(0, name.find('.', i + 1));
  return std::nullopt;
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

std::string time_left::text(double seconds) const {
  double done = 0, all = 0;
  for (const work& w : kinds_) done += w.done, all += w.bytes - w.resumed;
  return time_left_text(seconds, last_, all > 0 ? done / all : 1);
}

progress_line::progress_line(const quantization_plan& plan, const common_options& options) : options_{options}, time_{plan} {
  for (const work_item& item : plan.items) {
    const auto layer = layer_of(item.name);
    if (left_[std::string{layer.value_or(item.name)}]++ == 0) layers_ += layer.has_value();
  }
}

void progress_line::operator()(const progress& p) {
  if (p.item_finished) log_debug(options_, fmt::format("{}: done", p.item));
  if (!options_.says_info()) return;
  const double seconds = watch_.seconds(), left_seconds = time_.after(p);
  const double rate = seconds > 0 ? static_cast<double>(p.input_bytes_done - p.input_bytes_resumed) / seconds : 0;
  const auto layer = layer_of(p.item);
  const std::string_view name = layer.value_or(p.item);
  const auto left = left_.find(name);
  const bool done = p.item_finished && left != left_.end() && --left->second == 0;
  layers_done_ += done && layer;
  if (terminal_.shown()) {
    if (p.items_done < p.items && seconds - drawn_ < 0.1) return;
    drawn_ = seconds;
    terminal_.draw(fmt::format("layer {}/{}  {}/{} tensors  {}/s  ETA {}  {}  {}", layers_done_, layers_, p.items_done, p.items, size_text(rate),
                               time_.text(left_seconds), peak_text(), p.item));
    if (p.items_done == p.items) terminal_.clear();
  } else if (done) {
    log_info(options_, fmt::format("{}{}/{} {} {}/s eta {} {}", layer ? fmt::format("layer {}/{}, tensors ", layers_done_, layers_) : "tensors ",
                                   p.items_done, p.items, name, size_text(rate), time_.text(left_seconds), peak_text()));
  }
}

void calibration_line::operator()(const calibration_progress& p) {
  if (!options_.says_info()) return;
  if (p.layers_done <= last_) began_ = now_;  // another pass
  last_ = p.layers_done;
  now_ = watch_.seconds();
  if (p.work_before > 0 && !std::exchange(told_, true))
    log_info(options_, fmt::format("the interrupted calibration goes on at layer {}", p.layers_done));
  const double done = p.work_done - p.work_before, left = done > 0 ? (now_ - began_) / done * (1 - p.work_done) : 0;
  const std::string eta = time_left_text(left, now_ - began_, p.work_before < 1 ? done / (1 - p.work_before) : 1), peak = peak_text();
  if (!terminal_.shown()) return log_info(options_, fmt::format("calibrated layer {}/{} eta {} {}", p.layers_done, p.layers, eta, peak));
  terminal_.draw(fmt::format("calibrating layer {}/{}  ETA {}  {}", p.layers_done, p.layers, eta, peak));
  if (p.layers_done == p.layers) terminal_.clear();
}

}  // namespace qlib::program
