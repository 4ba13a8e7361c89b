// The loops that ours are compared with, written against llama.h alone. One run for each line on stdin, one line of
// JSON for each run on stdout.
#include "ggml-cpu.h"
#include "llama.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

double seconds_since(clock_type::time_point begin) {
    return std::chrono::duration<double>(clock_type::now() - begin).count();
}

struct options {
    std::map<std::string, std::string> given;

    options(int argc, char ** argv) {
        for (int i = 1; i + 1 < argc; i += 2) {
            given[std::string(argv[i]).substr(2)] = argv[i + 1];
        }
    }

    std::string text(const std::string & name, const std::string & fallback) const {
        auto found = given.find(name);
        return found == given.end() ? fallback : found->second;
    }

    int number(const std::string & name, int fallback) const {
        auto found = given.find(name);
        return found == given.end() ? fallback : std::stoi(found->second);
    }
};

struct result {
    double seconds = 0;
    int64_t count = 0;
    uint32_t digest = 0;
};

void check(bool good, const char * what) {
    if (!good) {
        throw std::runtime_error(what);
    }
}

llama_sampler * make_chain(const std::string & name, uint32_t seed) {
    llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    if (name == "greedy") {
        llama_sampler_chain_add(chain, llama_sampler_init_greedy());
        return chain;
    }
    check(name == "usual", "the chain is greedy or usual");
    llama_sampler_chain_add(chain, llama_sampler_init_top_k(40));
    llama_sampler_chain_add(chain, llama_sampler_init_top_p(0.95f, 1));
    llama_sampler_chain_add(chain, llama_sampler_init_min_p(0.05f, 1));
    llama_sampler_chain_add(chain, llama_sampler_init_temp(0.8f));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(seed));
    return chain;
}

// The greatest of a row in lanes, which the compiler turns into vectors, then where it is.
llama_token argmax(const float * row, int n) {
    constexpr int lanes = 32;
    float best[lanes];
    for (int lane = 0; lane < lanes; lane++) {
        best[lane] = row[0];
    }
    int i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (int lane = 0; lane < lanes; lane++) {
            best[lane] = row[i + lane] > best[lane] ? row[i + lane] : best[lane];
        }
    }
    float most = best[0];
    for (float value : best) {
        most = value > most ? value : most;
    }
    for (; i < n; i++) {
        most = row[i] > most ? row[i] : most;
    }
    for (i = 0; i < n && row[i] != most; i++) {
    }
    return i;
}

// What llama_sampler_sample does with a row of a context, for a row of any origin.
llama_token sample_row(llama_sampler * chain, const float * row, int n_vocab, std::vector<llama_token_data> & room) {
    room.resize(n_vocab);
    for (llama_token token = 0; token < n_vocab; token++) {
        room[token] = llama_token_data{token, row[token], 0.0f};
    }
    llama_token_data_array candidates{room.data(), room.size(), -1, false};
    llama_sampler_apply(chain, &candidates);
    const llama_token token = candidates.data[candidates.selected].id;
    llama_sampler_accept(chain, token);
    return token;
}

struct bench {
    const options & given;
    std::string mode;
    int n_tokens, n_prompt, n_sequences;
    llama_model * model = nullptr;
    llama_context * context = nullptr;
    const llama_vocab * vocab = nullptr;
    ggml_threadpool * pool = nullptr;
    std::vector<llama_sampler *> chains;
    int n_vocab = 0;

    explicit bench(const options & given) : given(given) {
        mode = given.text("mode", "ids");
        n_tokens = given.number("tokens", 128);
        n_prompt = given.number("prompt", 32);
        n_sequences = given.number("sequences", 1);
        const int n_chains = mode == "sampling" ? given.number("rows", 1) : n_sequences;
        for (int i = 0; i < n_chains; i++) {
            chains.push_back(make_chain(given.text("chain", "greedy"), given.number("seed", 1) + i));
        }
        if (mode != "load" && mode != "sampling") {
            load();
            start();
        }
    }

    ~bench() {
        for (llama_sampler * chain : chains) {
            llama_sampler_free(chain);
        }
        if (context) {
            llama_free(context);
        }
        llama_model_free(model);
        ggml_threadpool_free(pool);
    }

    void load() {
        llama_model_params params = llama_model_default_params();
        params.n_gpu_layers = given.number("n-gpu-layers", 0);
        model = llama_model_load_from_file(given.text("model", "").c_str(), params);
        check(model, "the model can't be loaded");
        vocab = llama_model_get_vocab(model);
        n_vocab = llama_vocab_n_tokens(vocab);
    }

    void start() {
        llama_context_params params = llama_context_default_params();
        params.n_ctx = given.number("n-ctx", 512);
        params.n_batch = given.number("n-batch", params.n_batch);
        params.n_ubatch = given.number("n-ubatch", params.n_ubatch);
        params.n_seq_max = n_sequences;
        params.n_threads = params.n_threads_batch = given.number("threads", 1);
        const std::string attention = given.text("flash-attn", "auto");
        params.flash_attn_type = attention == "on"    ? LLAMA_FLASH_ATTN_TYPE_ENABLED
                                 : attention == "off" ? LLAMA_FLASH_ATTN_TYPE_DISABLED
                                                      : LLAMA_FLASH_ATTN_TYPE_AUTO;
        context = llama_init_from_model(model, params);
        check(context, "no context");
        if (given.number("backend", 0)) {
            check(llama_set_sampler(context, 0, chains[0]), "the backend can't sample with this chain");
        }
        if (given.number("pool", 1)) {
            ggml_threadpool_params pool_params = ggml_threadpool_params_default(params.n_threads);
            pool_params.poll = given.number("poll", 50);
            pool = ggml_threadpool_new(&pool_params);
            llama_attach_threadpool(context, pool, pool);
        }
    }

    llama_token token_at(int i) const { return 300 + i * 7 % (n_vocab - 300); }

    void prefill() {
        llama_memory_clear(llama_get_memory(context), false);
        llama_batch batch = llama_batch_init(n_prompt * n_sequences, 0, 1);
        for (int i = 0; i < n_prompt; i++) {
            for (int sequence = 0; sequence < n_sequences; sequence++) {
                add(batch, token_at(i + sequence), i, sequence, i == n_prompt - 1);
            }
        }
        const int status = llama_decode(context, batch);
        llama_batch_free(batch);
        check(status == 0, "the prompt can't be decoded");
        llama_synchronize(context);
    }

    static void add(llama_batch & batch, llama_token token, int position, int sequence, bool logits) {
        const int i = batch.n_tokens++;
        batch.token[i] = token;
        batch.pos[i] = position;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = sequence;
        batch.logits[i] = logits;
    }

    result run() {
        if (mode == "load") {
            const auto begin = clock_type::now();
            load();
            const result out{seconds_since(begin), 1, 0};
            llama_model_free(model);
            model = nullptr;
            return out;
        }
        if (mode == "sampling") {
            return sampling();
        }
        for (llama_sampler * chain : chains) {
            llama_sampler_reset(chain);
        }
        if (mode == "prefill" || mode == "first") {
            const auto begin = clock_type::now();
            prefill();
            if (mode == "first") {
                llama_sampler_sample(chains[0], context, -1);
            }
            return {seconds_since(begin), mode == "first" ? 1 : n_prompt, 0};
        }
        prefill();
        return n_sequences > 1 ? many() : one();
    }

    result one() {
        result out;
        std::vector<llama_token> tokens;
        std::string text;
        char piece[256];
        const auto begin = clock_type::now();
        for (int i = 0; i < n_tokens; i++) {
            llama_token token;
            if (mode == "none") {
                token = token_at(i);
            } else if (mode == "argmax") {
                token = argmax(llama_get_logits_ith(context, -1), n_vocab);
            } else {
                token = llama_sampler_sample(chains[0], context, -1);
            }
            tokens.push_back(token);
            if (mode == "text") {
                const int length = llama_token_to_piece(vocab, token, piece, sizeof piece, 0, false);
                check(length >= 0, "the piece is too long");
                text.append(piece, length);
            }
            check(llama_decode(context, llama_batch_get_one(&token, 1)) == 0, "a token can't be decoded");
            if (mode == "none") {
                llama_synchronize(context);
            }
        }
        llama_synchronize(context);
        out.seconds = seconds_since(begin);
        out.count = n_tokens;
        for (llama_token token : tokens) {
            out.digest = out.digest * 31 + token;
        }
        return out;
    }

    result many() {
        result out;
        llama_batch batch = llama_batch_init(n_sequences, 0, 1);
        std::vector<llama_token> chosen(n_sequences);
        const auto begin = clock_type::now();
        for (int i = 0; i < n_tokens; i++) {
            for (int sequence = 0; sequence < n_sequences; sequence++) {
                // In the first round the rows are those of the prompts' last tokens, which lie at the end of the batch.
                const int row = sequence - n_sequences;
                chosen[sequence] = mode == "none" ? token_at(i) : llama_sampler_sample(chains[sequence], context, row);
            }
            batch.n_tokens = 0;
            for (int sequence = 0; sequence < n_sequences; sequence++) {
                add(batch, chosen[sequence], n_prompt + i, sequence, true);
            }
            check(llama_decode(context, batch) == 0, "a step can't be decoded");
            if (mode == "none") {
                llama_synchronize(context);
            }
        }
        llama_synchronize(context);
        out.seconds = seconds_since(begin);
        out.count = static_cast<int64_t>(n_tokens) * n_sequences;
        llama_batch_free(batch);
        return out;
    }

    std::vector<float> logits;
    std::vector<llama_token_data> room;

    // Sampling alone, over rows that are too many for the caches of a core.
    result sampling() {
        const int rows = static_cast<int>(chains.size());
        n_vocab = given.number("vocab", 128256);
        if (logits.empty()) {
            std::mt19937 random(1);
            std::normal_distribution<float> normal(0.0f, 3.0f);
            logits.resize(static_cast<size_t>(rows) * n_vocab);
            for (float & value : logits) {
                value = normal(random);
            }
        }
        result out;
        const auto begin = clock_type::now();
        for (int row = 0; row < rows; row++) {
            const float * values = logits.data() + static_cast<size_t>(row) * n_vocab;
            out.digest += mode == "argmax" ? argmax(values, n_vocab) : sample_row(chains[row], values, n_vocab, room);
        }
        out.seconds = seconds_since(begin);
        out.count = rows;
        return out;
    }
};

}  // namespace

int main(int argc, char ** argv) {
    try {
        const options given(argc, argv);
        llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
        llama_backend_init();
        bench one(given);
        one.run();
        std::printf("{\"ready\": true}\n");
        std::fflush(stdout);
        for (std::string line; std::getline(std::cin, line);) {
            const result out = one.run();
            std::printf("{\"seconds\": %.9f, \"count\": %lld, \"digest\": %u}\n", out.seconds,
                        static_cast<long long>(out.count), out.digest);
            std::fflush(stdout);
        }
    } catch (const std::exception & error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
