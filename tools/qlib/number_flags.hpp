/// Which numbers a flag takes. CLI11 alone would read 010 as 8, nan and inf as numbers, and cut off what does not fit into 64 bits.
#pragma once
#include <cstdint>
#include <string>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace qlib::program {

/// Of an option that is a whole number: from `first` to `last`. `otherwise` is what errors tell to do instead.
CLI::Option* whole_number(CLI::Option* option, std::int64_t first, std::int64_t last, std::string otherwise);

/// Of an option that is at least 1.
CLI::Option* at_least_one(CLI::Option* option, std::string otherwise);

/// Of an option that is a floating number: from `first` to `last`.
CLI::Option* real_number(CLI::Option* option, double first, double last, std::string otherwise);

/// Of an option that is a number of bytes, and at least 1: "1048576", "19.85 MB", "0.5GiB". k, M, G and T are powers of 1000, Ki, Mi, Gi and Ti of
/// 1024, in any case, with or without a B.
CLI::Option* byte_number(CLI::Option* option, std::string otherwise);

/// Of an option that is a number of GiB, or one of bytes with a unit, from 0 to 10^6 GiB. The option gets GiB.
CLI::Option* byte_or_gib_number(CLI::Option* option);

/// Every numeric option of a command takes decimal digits alone: no nan, no inf, nothing that its type cannot hold.
void check_numbers(CLI::App& command);

}  // namespace qlib::program
