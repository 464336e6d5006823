// Header-only, beside a unit that uses qlib::compiled.
#include <qlib/quantize.hpp>

#if defined(QLIB_COMPILED)
#error "this unit is header-only"
#endif

qlib::result<qlib::quantized_matrix> quantized_by_headers(qlib::matrix_view<const float> w);
qlib::result<qlib::quantized_matrix> quantized_by_headers(qlib::matrix_view<const float> w) { return qlib::quantize(w, qlib::int8_per_channel{}); }
