#include "quantbench_shim.h"

#include "common.h"
#include "ggml-backend.h"
#include "llama-ext.h"
#include "llama-model.h"
#include "quantbench_guarded.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <set>
#include <string>

#if defined(__linux__)
#include <sched.h>
#endif

// Cores that the threads of this process may run on, siblings of one core counted once; 0: not known.
static int32_t cores_allowed() {
    std::set<std::string> cores;
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return 0;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) {
            continue;
        }
        const std::string name = std::to_string(cpu);
        std::ifstream siblings("/sys/devices/system/cpu/cpu" + name + "/topology/thread_siblings");
        std::string core;
        cores.insert(std::getline(siblings, core) ? core : name);
    }
#endif
    return static_cast<int32_t>(cores.size());
}

int32_t quantbench_default_threads(void) {
    return guarded<int32_t>(1, nullptr, 0, [] {
        const int32_t threads = common_cpu_get_num_math();
        const int32_t allowed = cores_allowed();
        return allowed > 0 ? std::min(threads, allowed) : threads;
    });
}

int32_t quantbench_memory_breakdown(
    const llama_context * context, quantbench_buffer_memory * out, int32_t capacity) {
    return guarded<int32_t>(-1, nullptr, 0, [&] {
        int32_t count = 0;
        for (const auto & [type, memory] : llama_get_memory_breakdown(context)) {
            if (count < capacity) {
                quantbench_buffer_memory & entry = out[count];
                std::snprintf(entry.name, sizeof(entry.name), "%s", ggml_backend_buft_name(type));
                // Memory of a device without a memory of its own (CPU, repacked weights) is the host's too,
                // although the repacking buffer types do not call themselves host buffers.
                ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
                entry.is_host = ggml_backend_buft_is_host(type) || device == nullptr ||
                                ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
                entry.weights = memory.model;
                entry.kv      = memory.context;
                entry.compute = memory.compute;
            }
            count++;
        }
        return count;
    });
}

llama_model * quantbench_load_model(
    const char * path, llama_model_params params, char * error, size_t error_size) {
    return guarded<llama_model *>(
        nullptr, error, error_size, [&] { return llama_model_load_from_file(path, params); });
}

llama_context * quantbench_new_context(
    llama_model * model, llama_context_params params, char * error, size_t error_size) {
    return guarded<llama_context *>(
        nullptr, error, error_size, [&] { return llama_init_from_model(model, params); });
}

int32_t quantbench_model_tensors(const llama_model * model, ggml_tensor ** out, int32_t capacity) {
    return guarded<int32_t>(-1, nullptr, 0, [&] {
        int32_t count = 0;
        for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
            if (count < capacity) {
                out[count] = tensor;
            }
            count++;
        }
        return count;
    });
}

int32_t quantbench_decode(
    llama_context * context, llama_batch batch, char * error, size_t error_size) {
    return guarded<int32_t>(-1000, error, error_size, [&] { return llama_decode(context, batch); });
}

int32_t quantbench_encode(
    llama_context * context, llama_batch batch, char * error, size_t error_size) {
    return guarded<int32_t>(-1000, error, error_size, [&] { return llama_encode(context, batch); });
}

uint32_t quantbench_quantize(
    const char * input, const char * output, const llama_model_quantize_params * params, char * error,
    size_t error_size) {
    return guarded<uint32_t>(1000, error, error_size, [&] {
        return llama_model_quantize(input, output, params);
    });
}
