// What quantbench needs from llama.cpp that its C interface does not offer.
//
// Two kinds of function: access to what exists only in C++ (memory breakdown, llama-bench's default
// thread count, the tensors of a loaded model), and guarded calls that turn a C++ exception into an error text, because an exception
// must not cross into Rust. Every guarded function writes at most `error_size` bytes, terminated.
#pragma once

#include "llama.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Memory of one buffer type, in bytes.
struct quantbench_buffer_memory {
    char     name[64];
    bool     is_host;
    uint64_t weights;
    uint64_t kv;
    uint64_t compute;
};

// The number of threads that llama.cpp's own tools use when none is given.
int32_t quantbench_default_threads(void);

// Writes up to `capacity` entries; returns how many there are, or -1 after an exception.
int32_t quantbench_memory_breakdown(
    const struct llama_context * context, struct quantbench_buffer_memory * out, int32_t capacity);

struct llama_model * quantbench_load_model(
    const char * path, struct llama_model_params params, char * error, size_t error_size);

struct llama_context * quantbench_new_context(
    struct llama_model * model, struct llama_context_params params, char * error, size_t error_size);

// Writes up to `capacity` tensors of a loaded model, weights that are stored twice twice; returns how many
// there are, or -1 after an exception.
int32_t quantbench_model_tensors(
    const struct llama_model * model, struct ggml_tensor ** out, int32_t capacity);

// Returns llama_decode's code, or -1000 after an exception.
int32_t quantbench_decode(
    struct llama_context * context, struct llama_batch batch, char * error, size_t error_size);

// Returns llama_encode's code, or -1000 after an exception.
int32_t quantbench_encode(
    struct llama_context * context, struct llama_batch batch, char * error, size_t error_size);

// Returns llama_model_quantize's code, or 1000 after an exception.
uint32_t quantbench_quantize(
    const char * input, const char * output, const struct llama_model_quantize_params * params,
    char * error, size_t error_size);

#ifdef __cplusplus
}
#endif
