# Included by llama.cpp's CMake project (CMAKE_PROJECT_INCLUDE in .cargo/config.toml), for what its sources
# need of this repository's builds.

include_guard(GLOBAL)

# GCC before 11.5, 12.4, 13.3 and 14 reads only the first eight bytes of the argument of _tile_loadconfig
# (GCC bug 114098). ggml's AMX kernels configure their tiles through it; the rest of the configuration is optimised
# away, and the first product of a quantized matrix on a processor with AMX ends in an illegal instruction.
if (CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(quantbench_gcc ${CMAKE_CXX_COMPILER_VERSION})
    if (quantbench_gcc VERSION_LESS 11.5
            OR (quantbench_gcc VERSION_GREATER_EQUAL 12 AND quantbench_gcc VERSION_LESS 12.4)
            OR (quantbench_gcc VERSION_GREATER_EQUAL 13 AND quantbench_gcc VERSION_LESS 13.3))
        add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/amx_tiles.h\">")
    endif ()
endif ()

# Libraries that are given to others find each other beside themselves, wherever that is, and name no folder of this
# machine: quantbench says itself where its modules are (src/engine/llama/backend.rs), so that GGML_BACKEND_DIR is
# no path to look in. (Options stand after definitions in a command line, so that -U undoes one.)
if (GGML_BACKEND_DL)
    set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
    if (APPLE)
        set(CMAKE_INSTALL_RPATH "@loader_path;@loader_path/../lib")
    else ()
        set(CMAKE_INSTALL_RPATH "$ORIGIN;$ORIGIN/../lib")
    endif ()
    add_compile_options(-UGGML_BACKEND_DIR)
    # llama.cpp's own downloads are not used, and their libssl is not on every machine.
    set(LLAMA_OPENSSL OFF CACHE BOOL "" FORCE)
endif ()
