#include "quantbench_pictures.h"

#include "mtmd-helper.h"
#include "quantbench_guarded.h"

uint64_t quantbench_projector_bytes(const char * path, mtmd_context_params params) {
    return guarded<uint64_t>(0, nullptr, 0, [&] {
        uint64_t bytes = 0;
        for (const auto & [device, size] : mtmd_get_memory_usage(path, params).backend_mem_usage) {
            bytes += size;
        }
        return bytes;
    });
}

int32_t quantbench_decode_picture(
    mtmd_context * projector, llama_context * context, const mtmd_input_chunk * chunk,
    float * embeddings, llama_pos past, int32_t batch, llama_pos * next, char * error,
    size_t error_size) {
    return guarded<int32_t>(-1000, error, error_size, [&] {
        return mtmd_helper_decode_image_chunk(
            projector, context, chunk, embeddings, past, 0, batch, next, nullptr, nullptr);
    });
}
