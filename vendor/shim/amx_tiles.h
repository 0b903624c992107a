// Put before every C++ source of llama.cpp where GCC's own _tile_loadconfig is wrong; llama_cpp.cmake says when
// and why. The instruction reads 64 bytes, and all of them are named as its input here.
#pragma once

#include <immintrin.h>

#define _tile_loadconfig(configuration) \
    __asm__ volatile("ldtilecfg %0" : : "m"(*reinterpret_cast<const char (*)[64]>(configuration)))
