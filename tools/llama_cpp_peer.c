/* What tools/llama_cpp_check.py asks of llama.cpp through its C API: logits of a text, and files that it quantizes. The script compiles it. */
#include <llama.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, const char *where) {
    fprintf(stderr, "%s: %s\n", where, what);
    exit(1);
}

static void errors_only(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

/* Windows of the text side by side, each on its own; OUT holds the tokens, then the logits of every position, row by row. */
static void logits(const char *path, const char *text, int window, int count, int threads, const char *out) {
    struct llama_model_params how = llama_model_default_params();
    struct llama_model *model = llama_model_load_from_file(path, how);
    if (!model) {
        fail("llama.cpp does not open it", path);
    }
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    int length = (int)strlen(text), wanted = window * count;
    llama_token *tokens = malloc(sizeof(*tokens) * (size_t)(length + 8));
    int found = llama_tokenize(vocab, text, length, tokens, length + 8, false, false);
    if (found < wanted) {
        fail("the text has too few tokens", path);
    }
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = (uint32_t)window;
    params.n_threads = params.n_threads_batch = threads;
    params.type_k = params.type_v = GGML_TYPE_F32; /* F16 by default, which would be the largest difference of all. */
    FILE *file = fopen(out, "wb");
    if (!file) {
        fail("cannot be written", out);
    }
    fwrite(tokens, sizeof(*tokens), (size_t)wanted, file);
    for (int part = 0; part < count; part++) {
        struct llama_context *context = llama_init_from_model(model, params);
        struct llama_batch batch = llama_batch_init(window, 0, 1);
        batch.n_tokens = window;
        for (int i = 0; i < window; i++) {
            batch.token[i] = tokens[part * window + i];
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = true;
        }
        if (!context || llama_decode(context, batch)) {
            fail("llama.cpp does not run it", path);
        }
        for (int i = 0; i < window; i++) {
            fwrite(llama_get_logits_ith(context, i), sizeof(float), (size_t)llama_vocab_n_tokens(vocab), file);
        }
        llama_batch_free(batch);
        llama_free(context);
    }
    if (fclose(file)) {
        fail("cannot be written", out);
    }
    llama_model_free(model);
    free(tokens);
}

static void quantize(const char *in, const char *out, int type, bool pure) {
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = (enum llama_ftype)type;
    params.pure = pure;
    params.nthread = 1;
    if (llama_model_quantize(in, out, &params)) {
        fail("llama.cpp does not quantize it", in);
    }
}

static char *read_text(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fail("cannot be read", path);
    }
    fseek(file, 0, SEEK_END);
    long length = ftell(file);
    rewind(file);
    char *text = calloc((size_t)length + 1, 1);
    if (fread(text, 1, (size_t)length, file) != (size_t)length) {
        fail("cannot be read", path);
    }
    fclose(file);
    return text;
}

int main(int count, char **arguments) {
    llama_log_set(errors_only, NULL);
    llama_backend_init();
    if (count == 8 && !strcmp(arguments[1], "logits")) {
        logits(arguments[2], read_text(arguments[3]), atoi(arguments[4]), atoi(arguments[5]), atoi(arguments[6]), arguments[7]);
    } else if (count == 6 && !strcmp(arguments[1], "quantize")) {
        quantize(arguments[2], arguments[3], atoi(arguments[4]), !strcmp(arguments[5], "pure"));
    } else {
        fprintf(stderr, "usage: logits MODEL TEXT WINDOW WINDOWS THREADS OUT | quantize IN OUT FTYPE pure|mixed\n");
        return 2;
    }
    return 0;
}
