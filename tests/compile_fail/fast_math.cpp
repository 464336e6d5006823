// expect: -ffast-math breaks the rounding contract (docs/rounding.md)
// flags: -ffast-math
#include <qlib/quantize.hpp>
