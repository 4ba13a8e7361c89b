// Many rows at once, each with a sampler of its own, spread over threads.
#pragma once

#include "pick.h"

#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <vector>

namespace llama_cy {

struct row_task {
    token_picker * picker;
    llama_sampler * sampler;
    const float * logits;
    llama_token token;
    std::string error;
};

// What a thread does before and after it calls llama.cpp, so that a failed assert is an exception on it too.
typedef void (*guard_function)(int);
typedef void (*unguard_function)();

inline void pick_row(row_task & task, int32_t n_vocab) {
    try {
        task.token = task.picker->pick(task.sampler, task.logits, n_vocab);
        if (task.token == LLAMA_TOKEN_NULL) {
            task.error = "no sampler selected a token; end the chain with greedy() or dist()";
        }
    } catch (const std::exception & error) {
        task.error = error.what();
    } catch (...) {
        task.error = "an exception of no known type";
    }
}

// Chooses a token for each row; accepts them all, or none if one failed. Returns the first that failed, or their count.
inline size_t pick_rows(std::vector<row_task> & tasks, int32_t n_vocab, size_t n_threads, guard_function guard, int scope,
                        unguard_function unguard) {
    std::atomic<size_t> next{0};
    const auto work = [&] {
        guard(scope);
        for (size_t i = next++; i < tasks.size(); i = next++) {
            pick_row(tasks[i], n_vocab);
        }
        unguard();
    };
    std::vector<std::thread> helpers;
    try {
        while (helpers.size() + 1 < n_threads) {
            helpers.emplace_back(work);
        }
    } catch (const std::system_error &) {
        // The system gives no more threads; those that there are do it.
    }
    work();
    for (std::thread & helper : helpers) {
        helper.join();
    }
    for (size_t i = 0; i < tasks.size(); ++i) {
        if (!tasks[i].error.empty()) {
            return i;
        }
    }
    for (row_task & task : tasks) {
        task.picker->accept(task.sampler, task.token);
    }
    return tasks.size();
}

}  // namespace llama_cy
