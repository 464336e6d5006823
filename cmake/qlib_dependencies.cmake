# Everything that is not quantization is a well-kept library's job. Debian 12 names are in scripts/install_deps.sh.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET GLOBAL libpcre2-8)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET GLOBAL libhwy)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET GLOBAL libutf8proc)
# Optional: bf16 and f32 matrix products of the calibration forward. Only its header: the library is loaded at run time, when a product
# first wants it, and may be absent then.
option(QLIB_WITH_ONEDNN "use oneDNN 2 where it is installed" ON)
if(QLIB_WITH_ONEDNN)
  find_path(QLIB_ONEDNN_INCLUDE oneapi/dnnl/dnnl.h)
  mark_as_advanced(QLIB_ONEDNN_INCLUDE)
endif()
