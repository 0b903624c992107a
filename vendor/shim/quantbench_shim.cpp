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
#include <vector>

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

// The part of a tensor that each of the devices has between which it is divided; 1 for each that has all of it.
static std::vector<double> parts_of(const llama_model & model, const ggml_tensor & tensor) {
    // The callback wants its own kind of pointer to what is only read.
    auto * data = const_cast<llama_meta_device_get_split_state_userdata *>(&model.get_split_state_ud);
    const ggml_backend_meta_split_state state = llama_meta_device_get_split_state(&tensor, data);
    std::vector<double> parts(data->n_devices, 1.0);
    if (state.axis < 0 || state.axis >= GGML_MAX_DIMS) {
        return parts;
    }
    for (size_t device = 0; device < parts.size(); device++) {
        int64_t own = 0;
        for (uint32_t segment = 0; segment < state.n_segments; segment++) {
            own += state.ne[segment * parts.size() + device] * state.nr[segment];
        }
        parts[device] = static_cast<double>(own) / static_cast<double>(tensor.ne[state.axis]);
    }
    return parts;
}

// Memory of the devices between which tensors are divided, an entry each. llama.cpp tells of all together: without allocation of whole tensors, else of the largest part. Compute buffers are whole on each.
static std::vector<quantbench_buffer_memory> divided(
    const llama_model & model, ggml_backend_buffer_type_t type, const llama_memory_breakdown_data & memory) {
    const size_t devices = model.get_split_state_ud.n_devices;
    std::vector<double> weights(devices, 0.0);
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(&model)) {
        if (tensor->buffer == nullptr || ggml_backend_buffer_get_type(tensor->buffer) != type) {
            continue;
        }
        const std::vector<double> parts = parts_of(model, *tensor);
        for (size_t device = 0; device < devices; device++) {
            weights[device] += parts[device] * static_cast<double>(ggml_nbytes(tensor));
        }
    }
    // The caches have no tensors that can be asked about from here: ones of the same names and widths tell.
    std::vector<double> cache(devices, 0.0);
    double whole = 0.0;
    for (uint32_t layer = 0; layer < model.hparams.n_layer(); layer++) {
        if (model.get_tensor(("blk." + std::to_string(layer) + ".attn_output.weight").c_str()) == nullptr) {
            continue;
        }
        ggml_tensor keys = {};
        keys.type  = GGML_TYPE_F16;
        keys.ne[0] = model.hparams.n_embd_k_gqa(layer);
        keys.ne[1] = keys.ne[2] = keys.ne[3] = 1;
        ggml_set_name(&keys, ("cache_k_l" + std::to_string(layer)).c_str());
        const std::vector<double> parts = parts_of(model, keys);
        for (size_t device = 0; device < devices; device++) {
            cache[device] += parts[device] * static_cast<double>(keys.ne[0]);
        }
        whole += static_cast<double>(keys.ne[0]);
    }
    if (!model.hparams.no_alloc) {
        whole = *std::max_element(cache.begin(), cache.end());
    }
    // The name of the type does not say which devices these are; they are chosen as `llama_prepare_model_devices` does.
    std::vector<const char *> names;
    for (size_t index = 0; index < ggml_backend_dev_count(); index++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(index);
        if (ggml_backend_dev_buffer_type(device) != ggml_backend_cpu_buffer_type()) {
            names.push_back(ggml_backend_dev_name(device));
        }
    }
    std::vector<quantbench_buffer_memory> entries;
    for (size_t device = 0; device < devices; device++) {
        quantbench_buffer_memory entry = {};
        std::snprintf(entry.name, sizeof(entry.name), "%s", device < names.size() ? names[device] : "");
        entry.weights = static_cast<uint64_t>(weights[device]);
        entry.kv      = whole > 0.0 ? static_cast<uint64_t>(static_cast<double>(memory.context) * cache[device] / whole)
                                    : memory.context;
        entry.compute = memory.compute;
        entries.push_back(entry);
    }
    return entries;
}

int32_t quantbench_memory_breakdown(
    const llama_context * context, quantbench_buffer_memory * out, int32_t capacity) {
    return guarded<int32_t>(-1, nullptr, 0, [&] {
        int32_t count = 0;
        for (const auto & [type, memory] : llama_get_memory_breakdown(context)) {
            if (std::strncmp(ggml_backend_buft_name(type), "Meta(", 5) == 0) {
                for (const auto & entry : divided(*llama_get_model(context), type, memory)) {
                    if (count < capacity) {
                        out[count] = entry;
                    }
                    count++;
                }
                continue;
            }
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
