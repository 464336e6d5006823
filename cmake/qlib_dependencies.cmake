# Everything that is not quantization is a well-kept library's job. Debian 12 names are in scripts/install_deps.sh.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET GLOBAL libpcre2-8)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET GLOBAL libhwy)
