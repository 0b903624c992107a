// What quantbench needs from libmtmd beyond its C interface; part of the build with the feature
// `multimodal`. As in quantbench_shim.h, a guarded function turns an exception into an error text.
#pragma once

#include "mtmd.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Bytes of a projector's weights and of what encoding a picture takes at most, on all devices together; 0
// if they cannot be told. Nothing of that size is allocated.
uint64_t quantbench_projector_bytes(const char * path, struct mtmd_context_params params);

// Puts an encoded picture into a context, in batches of at most `batch` tokens, from position `past` of
// sequence 0 on. Returns llama_decode's code, or -1000 after an exception; on 0 `next` is the position
// behind the picture.
int32_t quantbench_decode_picture(
    mtmd_context * projector, struct llama_context * context, const mtmd_input_chunk * chunk,
    float * embeddings, llama_pos past, int32_t batch, llama_pos * next, char * error,
    size_t error_size);

#ifdef __cplusplus
}
#endif
