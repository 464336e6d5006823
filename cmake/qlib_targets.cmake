# Header-only components, and qlib::compiled: the same code built once.
function(qlib_component name)
  add_library(qlib_${name} INTERFACE)
  add_library(qlib::${name} ALIAS qlib_${name})
  set_target_properties(qlib_${name} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(qlib_${name} INTERFACE ${ARGN})
endfunction()

qlib_component(core)
target_include_directories(qlib_core INTERFACE $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
                                               $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(qlib_core INTERFACE cxx_std_20)

# Both definitions work around Highway 1.0.3: it refuses -march=native on CPUs newer than itself, and takes x86-64-v3, which does
# not imply AES, for SSSE3.
qlib_component(highway qlib::core PkgConfig::HWY)
target_compile_definitions(qlib_highway INTERFACE HWY_WANT_AVX3_DL HWY_DISABLE_PCLMUL_AES)

qlib_component(io qlib::core nlohmann_json::nlohmann_json)
qlib_component(linalg qlib::highway Threads::Threads ${CMAKE_DL_LIBS})
if(QLIB_WITH_ONEDNN AND QLIB_ONEDNN_INCLUDE)
  target_include_directories(qlib_linalg SYSTEM INTERFACE $<BUILD_INTERFACE:${QLIB_ONEDNN_INCLUDE}>)
  target_compile_definitions(qlib_linalg INTERFACE QLIB_HAS_ONEDNN)
endif()
qlib_component(tokenizer qlib::core nlohmann_json::nlohmann_json PkgConfig::PCRE2 PkgConfig::UTF8PROC)
qlib_component(model qlib::io qlib::linalg qlib::tokenizer)
qlib_component(recipe qlib::core yaml-cpp PkgConfig::PCRE2)
qlib_component(qlib qlib::core qlib::model qlib::recipe Threads::Threads)

# One unit a folder: heavy headers (JSON, YAML, PCRE2) are parsed once each. A dispatch.ipp is a unit of its own, because it must be the
# first to see Highway.
set(qlib_units)
function(qlib_unit name)
  list(TRANSFORM ARGN REPLACE "(.+)" "#include <\\1>\n")
  list(JOIN ARGN "" includes)
  set(unit "${CMAKE_CURRENT_BINARY_DIR}/units/${name}.cpp")
  file(CONFIGURE OUTPUT "${unit}" CONTENT "${includes}")
  set(qlib_units ${qlib_units} "${unit}" PARENT_SCOPE)
endfunction()
foreach(folder IN ITEMS backend backend/ascend linalg suppressor io tokenizer model recipe format pipeline pipeline/ascend report)
  string(REPLACE "/" "_" unit "${folder}")
  file(GLOB definitions RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}/include" CONFIGURE_DEPENDS
       "${CMAKE_CURRENT_SOURCE_DIR}/include/qlib/${folder}/*.ipp")
  if("qlib/${folder}/dispatch.ipp" IN_LIST definitions)
    list(REMOVE_ITEM definitions "qlib/${folder}/dispatch.ipp")
    qlib_unit(${unit}_dispatch "qlib/${folder}/dispatch.ipp")
  endif()
  if(definitions)
    qlib_unit(${unit} ${definitions})
  endif()
endforeach()
add_library(qlib_compiled STATIC ${qlib_units})
add_library(qlib::compiled ALIAS qlib_compiled)
set_target_properties(qlib_compiled PROPERTIES EXPORT_NAME compiled OUTPUT_NAME qlib POSITION_INDEPENDENT_CODE ON)
target_link_libraries(qlib_compiled PUBLIC qlib::qlib PRIVATE qlib::highway)
target_compile_definitions(qlib_compiled PUBLIC QLIB_COMPILED)
# No fused multiply-add that the code does not write: the same bits on every instruction set (linalg/elementary.hpp).
# GCC 12 warns of overlaps in std::string's own operator+ at -O3 (its bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(qlib_compiled PRIVATE -Wno-restrict)
  # At -O1 GCC leaves vzeroupper out without it: every SSE instruction behind an AVX kernel then waits (std::exp: 140 ns instead of 4.5).
  target_compile_options(qlib_compiled PRIVATE -fexpensive-optimizations)
endif()
target_compile_options(qlib_compiled PRIVATE -ffp-contract=off -Wall -Wextra $<$<BOOL:${QLIB_WARNINGS_AS_ERRORS}>:-Werror>)
