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

/// Of an option that is a number of bytes, such as 500MB or 8GiB, and at least 1.
CLI::Option* byte_number(CLI::Option* option, bool powers_of_1000, std::string otherwise);

/// Every numeric option of a command takes decimal digits alone: no nan, no inf, nothing that its type cannot hold.
void check_numbers(CLI::App& command);

}  // namespace qlib::program
