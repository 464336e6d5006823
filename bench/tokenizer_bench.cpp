// Tokenizer: seconds to load, and MB/s of encoding with an empty and with a warm cache of pieces, one thread.
//   tokenizer_bench DIRECTORY_OR_TOKENIZER_JSON TEXT_FILE [rounds]
// The text is cut at line ends into texts of 64 KiB, as calibration data comes.
#include <qlib/core/stopwatch.hpp>
#include <qlib/io/file.hpp>
#include <qlib/tokenizer/tokenizer.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::vector<std::string_view> texts_of(std::string_view all) {
  std::vector<std::string_view> texts;
  while (!all.empty()) {
    const std::size_t end = all.size() > 65536 ? all.find('\n', 65536) : all.npos;
    const std::size_t length = end == all.npos ? all.size() : end + 1;
    texts.push_back(all.substr(0, length));
    all.remove_prefix(length);
  }
  return texts;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: tokenizer_bench DIRECTORY_OR_TOKENIZER_JSON TEXT_FILE [rounds]\n");
    return 2;
  }
  const int rounds = argc > 3 ? std::max(1, std::atoi(argv[3])) : 5;
  const auto text = qlib::read_text_file(argv[2]);
  if (!text) {
    std::fprintf(stderr, "tokenizer_bench: %s\n", text.error().text().c_str());
    return 2;
  }
  const auto texts = texts_of(*text);
  double load = 1e9, cold = 1e9, warm = 1e9;
  std::size_t ids = 0;
  for (int round = 0; round < rounds; ++round) {
    const qlib::stopwatch loading;
    const auto words = qlib::tokenizer::load(argv[1]);
    load = std::min(load, loading.seconds());
    if (!words) {
      std::fprintf(stderr, "tokenizer_bench: %s\n", words.error().text().c_str());
      return 2;
    }
    for (double* best : {&cold, &warm}) {
      const qlib::stopwatch start;
      ids = 0;
      for (const std::string_view one : texts) {
        const auto encoded = words->encode(one, false);
        if (!encoded) return 1;
        ids += encoded->size();
      }
      *best = std::min(*best, start.seconds());
    }
  }
  const double megabytes = static_cast<double>(text->size()) / 1e6;
  std::printf("load %.3f s   encode %.1f MB/s   again %.1f MB/s   (%.1f MB, %zu ids, %.2f bytes an id, best of %d)\n", load, megabytes / cold,
              megabytes / warm, megabytes, ids, static_cast<double>(text->size()) / static_cast<double>(ids), rounds);
}
