#pragma once
#include <qlib/linalg/onednn.hpp>

#if defined(QLIB_HAS_ONEDNN) && defined(__unix__) && __has_include(<oneapi/dnnl/dnnl.h>)
#include <qlib/core/buffer.hpp>

#include <oneapi/dnnl/dnnl.h>

#if DNNL_VERSION_MAJOR == 2
#define QLIB_ONEDNN_2
#endif
#endif

#if defined(QLIB_ONEDNN_2)
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <dlfcn.h>

namespace qlib::inline v0 {
namespace detail {

/// The functions that are used, typed by oneDNN's own header.
struct dnnl_library {
#define QLIB_DNNL(function) decltype(&dnnl_##function) function = nullptr;
#define QLIB_DNNL_FUNCTIONS                     \
  QLIB_DNNL(version)                            \
  QLIB_DNNL(get_effective_cpu_isa)              \
  QLIB_DNNL(engine_create)                      \
  QLIB_DNNL(stream_create)                      \
  QLIB_DNNL(stream_destroy)                     \
  QLIB_DNNL(memory_create)                      \
  QLIB_DNNL(memory_destroy)                     \
  QLIB_DNNL(memory_desc_init_by_strides)        \
  QLIB_DNNL(memory_desc_get_size)               \
  QLIB_DNNL(matmul_desc_init)                   \
  QLIB_DNNL(primitive_attr_create)              \
  QLIB_DNNL(primitive_attr_destroy)             \
  QLIB_DNNL(primitive_attr_set_scratchpad_mode) \
  QLIB_DNNL(primitive_desc_create)              \
  QLIB_DNNL(primitive_desc_destroy)             \
  QLIB_DNNL(primitive_desc_query_md)            \
  QLIB_DNNL(primitive_create)                   \
  QLIB_DNNL(primitive_destroy)                  \
  QLIB_DNNL(primitive_execute)                  \
  QLIB_DNNL(gemm_s8s8s32)
  QLIB_DNNL_FUNCTIONS
#undef QLIB_DNNL
  int (*omp_get_max_threads)() = nullptr;
  void (*omp_set_num_threads)(int) = nullptr;
  dnnl_engine_t engine = nullptr;
  std::string name;
  onednn_support support;

  dnnl_library() {
    const std::string file = "libdnnl.so." + std::to_string(DNNL_VERSION_MAJOR);
    void* const library = dlopen(file.c_str(), RTLD_LAZY | RTLD_LOCAL);  // never closed: threads may hold its objects until they end
    if (!library) return;
    bool complete = true;
    const auto find = [&](auto& pointer, const char* symbol) {
      void* const address = dlsym(library, symbol);
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(address);
      complete = complete && address;
    };
#define QLIB_DNNL(function) find(function, "dnnl_" #function);
    QLIB_DNNL_FUNCTIONS
#undef QLIB_DNNL
#undef QLIB_DNNL_FUNCTIONS
    if (!complete) return;
    const dnnl_version_t& v = *version();
    if (v.cpu_runtime == DNNL_RUNTIME_OMP) {
      find(omp_get_max_threads, "omp_get_max_threads");
      find(omp_set_num_threads, "omp_set_num_threads");
      if (!complete) return;
    } else if (v.cpu_runtime != DNNL_RUNTIME_SEQ) {
      return;  // a runtime that cannot be told to keep to one thread
    }
    if (engine_create(&engine, dnnl_cpu, 0) != dnnl_success) return;
    name = "onednn " + std::to_string(v.major) + '.' + std::to_string(v.minor) + '.' + std::to_string(v.patch);
    const int isa = get_effective_cpu_isa();
    support = {.f32 = true,
               .bf16 = (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16,
               .s8 = (isa & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni,
               .name = name};
  }

  static const dnnl_library& get() {
    static const dnnl_library* const library = new dnnl_library;  // outlives every thread
    return *library;
  }
};

/// While it lives, OpenMP regions that this thread opens have one thread: this one.
class one_openmp_thread {
 public:
  explicit one_openmp_thread(const dnnl_library& library) : library_{library} {
    if (!library_.omp_set_num_threads) return;
    before_ = library_.omp_get_max_threads();
    library_.omp_set_num_threads(1);
  }
  one_openmp_thread(const one_openmp_thread&) = delete;
  one_openmp_thread& operator=(const one_openmp_thread&) = delete;
  ~one_openmp_thread() {
    if (library_.omp_set_num_threads) library_.omp_set_num_threads(before_);
  }

 private:
  const dnnl_library& library_;
  int before_ = 1;
};

/// Shape, strides and element type of a product: {rows, cols, k, x stride, w stride, y stride, element type}.
using dnnl_product_key = std::array<dnnl_dim_t, 7>;

/// Generated code for products of one key. Immutable: any number of threads runs it at a time.
class dnnl_product {
 public:
  dnnl_product(const dnnl_library& library, const dnnl_product_key& key) : library_{library} {
    const auto [rows, cols, k, x_stride, w_stride, y_stride, type] = key;
    const auto element = static_cast<dnnl_data_type_t>(type);
    const dnnl_dims_t x_dims = {rows, k}, x_strides = {x_stride, 1}, w_dims = {k, cols}, w_strides = {1, w_stride}, y_dims = {rows, cols},
                      y_strides = {y_stride, 1};
    dnnl_matmul_desc_t product;
    dnnl_primitive_attr_t attributes = nullptr;
    dnnl_primitive_desc_t description = nullptr;
    const auto succeeds = [](dnnl_status_t s) { return s == dnnl_success; };
    if (succeeds(library.memory_desc_init_by_strides(&x_, 2, x_dims, element, x_strides)) &&
        succeeds(library.memory_desc_init_by_strides(&w_, 2, w_dims, element, w_strides)) &&
        succeeds(library.memory_desc_init_by_strides(&y_, 2, y_dims, dnnl_f32, y_strides)) &&
        succeeds(library.matmul_desc_init(&product, &x_, &w_, nullptr, &y_)) && succeeds(library.primitive_attr_create(&attributes)) &&
        succeeds(library.primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user)) &&
        succeeds(library.primitive_desc_create(&description, &product, attributes, library.engine, nullptr))) {
      scratchpad_ = *library.primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0);
      if (!succeeds(library.primitive_create(&code_, description))) code_ = nullptr;
    }
    if (description) library.primitive_desc_destroy(description);
    if (attributes) library.primitive_attr_destroy(attributes);
  }
  dnnl_product(const dnnl_product&) = delete;
  dnnl_product& operator=(const dnnl_product&) = delete;
  ~dnnl_product() {
    if (code_) library_.primitive_destroy(code_);
  }

  bool run(const void* x, const void* w, float* y) const {
    if (!code_) return false;
    thread_local workplace here{library_};
    const std::size_t bytes = library_.memory_desc_get_size(&scratchpad_);
    if (here.scratch.size() < bytes) here.scratch = buffer{bytes};
    if (!here.stream || (bytes > 0 && !here.scratch.data())) return false;
    const std::array<dnnl_memory_desc_t const*, 4> shapes{&x_, &w_, &y_, &scratchpad_};
    const std::array<void*, 4> data{const_cast<void*>(x), const_cast<void*>(w), y, here.scratch.data()};
    std::array<dnnl_exec_arg_t, 4> arguments{
        {{DNNL_ARG_SRC, nullptr}, {DNNL_ARG_WEIGHTS, nullptr}, {DNNL_ARG_DST, nullptr}, {DNNL_ARG_SCRATCHPAD, nullptr}}};
    bool done = true;
    for (std::size_t i = 0; i < 4; ++i)
      done = done && library_.memory_create(&arguments[i].memory, shapes[i], library_.engine, data[i]) == dnnl_success;
    done = done && library_.primitive_execute(code_, here.stream, 4, arguments.data()) == dnnl_success;
    for (const dnnl_exec_arg_t& a : arguments)
      if (a.memory) library_.memory_destroy(a.memory);
    return done;
  }

 private:
  /// What a thread needs of its own.
  struct workplace {
    const dnnl_library& library;
    dnnl_stream_t stream = nullptr;
    buffer scratch;
    explicit workplace(const dnnl_library& l) : library{l} {
      if (library.stream_create(&stream, library.engine, dnnl_stream_default_flags) != dnnl_success) stream = nullptr;
    }
    workplace(const workplace&) = delete;
    workplace& operator=(const workplace&) = delete;
    ~workplace() {
      if (stream) library.stream_destroy(stream);
    }
  };

  const dnnl_library& library_;
  dnnl_memory_desc_t x_, w_, y_, scratchpad_;
  dnnl_primitive_t code_ = nullptr;
};

/// The products generated so far.
class dnnl_products {
 public:
  std::shared_ptr<const dnnl_product> find(const dnnl_library& library, const dnnl_product_key& key) {
    {
      const std::lock_guard lock{mutex_};
      if (const auto it = products_.find(key); it != products_.end()) return it->second;
    }
    auto made = std::make_shared<const dnnl_product>(library, key);  // outside the lock; of two threads' the first stays
    const std::lock_guard lock{mutex_};
    if (products_.size() >= most) products_.clear();
    return products_.emplace(key, std::move(made)).first->second;
  }

  static dnnl_products& get() {
    static auto* const products = new dnnl_products;  // as dnnl_library
    return *products;
  }

 private:
  static constexpr std::size_t most = 1024;
  std::mutex mutex_;
  std::map<dnnl_product_key, std::shared_ptr<const dnnl_product>> products_;
};

template <class T>
bool dnnl_multiply(matrix_view<const T> x, matrix_view<const T> w, matrix_view<float> y) {
  const dnnl_library& library = dnnl_library::get();
  constexpr bool f32 = std::is_same_v<T, float>, b16 = std::is_same_v<T, bf16>;
  if (!(f32 ? library.support.f32 : b16 ? library.support.bf16 : library.support.s8)) return false;
  const auto dim = [](std::size_t n) { return static_cast<dnnl_dim_t>(n); };
  const one_openmp_thread here{library};  // before the product is generated too: its blocking depends on the number of threads
  return dnnl_products::get()
      .find(library, {dim(x.rows()), dim(w.rows()), dim(x.cols()), dim(x.stride()), dim(w.stride()), dim(y.stride()),
                      f32   ? dnnl_f32
                      : b16 ? dnnl_bf16
                            : dnnl_s8})
      ->run(x.data(), w.data(), y.data());
}

}  // namespace detail

QLIB_INLINE const onednn_support& onednn() { return detail::dnnl_library::get().support; }

QLIB_INLINE bool onednn_multiply(matrix_view<const float> x, matrix_view<const float> w, matrix_view<float> y) {
  return detail::dnnl_multiply(x, w, y);
}
QLIB_INLINE bool onednn_multiply(matrix_view<const bf16> x, matrix_view<const bf16> w, matrix_view<float> y) {
  return detail::dnnl_multiply(x, w, y);
}
QLIB_INLINE bool onednn_multiply(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w, matrix_view<float> y) {
  return detail::dnnl_multiply(x, w, y);
}
QLIB_INLINE bool onednn_multiply(matrix_view<const std::int8_t> x, matrix_view<const std::int8_t> w, matrix_view<std::int32_t> y) {
  const detail::dnnl_library& library = detail::dnnl_library::get();
  if (!library.support.s8) return false;
  const detail::one_openmp_thread here{library};
  const auto dim = [](std::size_t n) { return static_cast<dnnl_dim_t>(n); };
  const std::int32_t no_offset = 0;
  return library.gemm_s8s8s32('N', 'T', 'F', dim(x.rows()), dim(w.rows()), dim(x.cols()), 1.0f, x.data(), dim(x.stride()), 0, w.data(),
                              dim(w.stride()), 0, 0.0f, y.data(), dim(y.stride()), &no_offset) == dnnl_success;
}

}  // namespace qlib::inline v0
#undef QLIB_ONEDNN_2

#else

namespace qlib::inline v0 {

QLIB_INLINE const onednn_support& onednn() {
  static constexpr onednn_support none;
  return none;
}

QLIB_INLINE bool onednn_multiply(matrix_view<const float>, matrix_view<const float>, matrix_view<float>) { return false; }
QLIB_INLINE bool onednn_multiply(matrix_view<const bf16>, matrix_view<const bf16>, matrix_view<float>) { return false; }
QLIB_INLINE bool onednn_multiply(matrix_view<const std::int8_t>, matrix_view<const std::int8_t>, matrix_view<float>) { return false; }
QLIB_INLINE bool onednn_multiply(matrix_view<const std::int8_t>, matrix_view<const std::int8_t>, matrix_view<std::int32_t>) { return false; }

}  // namespace qlib::inline v0
#endif
