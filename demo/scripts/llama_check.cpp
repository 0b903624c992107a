// Runs one small model through llama.cpp, to compare with PyTorch and to measure tasks.
//
//   llama_check logits|generate|embed|classify MODEL < lines of token ids
//   llama_check see MODEL MMPROJ < lines: PNG path, tab, question
//
// logits: prints all logits of the last position of every prefix, one position a line. For an
// encoder-decoder a line is "encoder ids | decoder ids". generate: greedy, ids until the end token.
// embed, classify: the pooled vector, or the scores of the classes.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "llama.h"
#ifdef WITH_MTMD
#include "mtmd-helper.h"
#include "mtmd.h"
#endif

static std::vector<llama_token> numbers(const std::string & text) {
    std::istringstream in(text);
    std::vector<llama_token> ids;
    for (int id; in >> id;) {
        ids.push_back(id);
    }
    return ids;
}

static void print(const float * values, int count) {
    for (int i = 0; i < count; i++) {
        printf(i ? " %.6g" : "%.6g", values[i]);
    }
    printf("\n");
}

static void add(llama_batch & batch, llama_token id, llama_pos position, bool output) {
    const int i = batch.n_tokens++;
    batch.token[i] = id;
    batch.pos[i] = position;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = output;
}

static bool decode(llama_context * context, const std::vector<llama_token> & ids, llama_pos start, bool all) {
    llama_batch batch = llama_batch_init((int) ids.size(), 0, 1);
    for (size_t i = 0; i < ids.size(); i++) {
        add(batch, ids[i], start + (llama_pos) i, all || i + 1 == ids.size());
    }
    const int code = llama_decode(context, batch);
    llama_batch_free(batch);
    return code == 0;
}

static bool encode(llama_context * context, const std::vector<llama_token> & ids) {
    llama_batch batch = llama_batch_init((int) ids.size(), 0, 1);
    for (size_t i = 0; i < ids.size(); i++) {
        add(batch, ids[i], (llama_pos) i, true);
    }
    const int code = llama_encode(context, batch);
    llama_batch_free(batch);
    return code == 0;
}

static llama_token best(const float * logits, int count) {
    int top = 0;
    for (int i = 1; i < count; i++) {
        top = logits[i] > logits[top] ? i : top;
    }
    return top;
}

static void generate(llama_context * context, const llama_vocab * vocab, llama_pos position) {
    const int count = llama_vocab_n_tokens(vocab);
    for (int n = 0; n < 96; n++) {
        const llama_token id = best(llama_get_logits_ith(context, -1), count);
        if (llama_vocab_is_eog(vocab, id)) {
            break;
        }
        printf("%d ", id);
        if (!decode(context, {id}, position++, false)) {
            break;
        }
    }
    printf("\n");
}

int main(int argc, char ** argv) {
    if (argc < 3) {
        return fprintf(stderr, "llama_check logits|generate|embed|classify|see MODEL [MMPROJ]\n"), 2;
    }
    const std::string mode = argv[1];
    llama_log_set([](ggml_log_level level, const char * text, void *) { if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr); }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[2], llama_model_default_params());
    if (!model) {
        return 1;
    }
    const llama_vocab * vocab = llama_model_get_vocab(model);
    const bool pooled = mode == "embed" || mode == "classify";
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 1024;
    params.n_batch = params.n_ubatch = 1024;
    params.n_threads = params.n_threads_batch = 2;
    params.embeddings = pooled;
    params.pooling_type = mode == "classify" ? LLAMA_POOLING_TYPE_RANK : pooled ? LLAMA_POOLING_TYPE_MEAN : LLAMA_POOLING_TYPE_NONE;
    llama_context * context = llama_init_from_model(model, params);
    if (!context) {
        return 1;
    }
#ifdef WITH_MTMD
    mtmd_context * images = nullptr;
    if (mode == "see") {
        images = mtmd_init_from_file(argv[3], model, mtmd_context_params_default());
        if (!images) {
            return 1;
        }
    }
#endif
    const int vocabulary = llama_vocab_n_tokens(vocab);
    for (std::string line; std::getline(std::cin, line);) {
        if (llama_memory_t memory = llama_get_memory(context)) {
            llama_memory_clear(memory, true);
        }
        if (mode == "see") {
#ifdef WITH_MTMD
            const size_t tab = line.find('\t');
            const std::string path = line.substr(0, tab);
            std::string prompt = std::string("<|im_start|>user\n") + mtmd_default_marker() + "\n" + line.substr(tab + 1) + "<|im_end|>\n<|im_start|>assistant\n";
            auto loaded = mtmd_helper_bitmap_init_from_file(images, path.c_str(), false, mtmd_helper_init_opt_default());
            const mtmd_bitmap * bitmap = loaded.bitmap;
            mtmd_input_chunks * chunks = mtmd_input_chunks_init();
            mtmd_input_text text{prompt.c_str(), prompt.size(), true, true};
            llama_pos position = 0;
            if (mtmd_tokenize(images, chunks, &text, &bitmap, 1) != 0 ||
                mtmd_helper_eval_chunks(images, context, chunks, 0, 0, 1024, true, &position) != 0) {
                return 1;
            }
            mtmd_input_chunks_free(chunks);
            generate(context, vocab, position);
#endif
            continue;
        }
        const size_t bar = line.find('|');
        std::vector<llama_token> ids = numbers(line.substr(0, bar));
        if (pooled) {
            if (!decode(context, ids, 0, true)) {
                return 1;
            }
            print(llama_get_embeddings_seq(context, 0), mode == "classify" ? llama_model_n_cls_out(model) : llama_model_n_embd(model));
            continue;
        }
        if (llama_model_has_encoder(model)) {
            if (!encode(context, ids)) {
                return 1;
            }
            ids = bar == std::string::npos ? std::vector<llama_token>{llama_model_decoder_start_token(model)} : numbers(line.substr(bar + 1));
        }
        if (!decode(context, ids, 0, mode == "logits")) {
            return 1;
        }
        if (mode == "generate") {
            generate(context, vocab, (llama_pos) ids.size());
            continue;
        }
        for (size_t i = 0; i < ids.size(); i++) {
            print(llama_get_logits_ith(context, (int) i), vocabulary);
        }
    }
    llama_free(context);
    llama_model_free(model);
    return 0;
}
