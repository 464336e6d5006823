# cmake -DCOMPILER=... -DINCLUDE=... -DHEADER=... -P no_packages.cmake
# HEADER must compile with INCLUDE alone, and read no header of the packages that other parts of qlib use.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND "${COMPILER}" -std=c++20 -I "${INCLUDE}" -M -x c++ "${INCLUDE}/${HEADER}"
                RESULT_VARIABLE failed OUTPUT_VARIABLE read ERROR_VARIABLE said)
if(failed)
  message(FATAL_ERROR "${HEADER} needs more than -I include:\n${said}")
endif()
string(REGEX MATCHALL "[^ \n]*/(nlohmann|yaml-cpp|Eigen|hwy|pcre2)[^ \n]*" foreign "${read}")
if(foreign)
  message(FATAL_ERROR "${HEADER} reads ${foreign}")
endif()
