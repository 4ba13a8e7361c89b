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
    int code;
    std::string error;
};

// What a thread does before and after it calls llama.cpp, so that a failed assert is an exception on it too.
typedef void (*guard_function)(int);
typedef void (*unguard_function)();

inline void pick_row(row_task & task, int32_t n_vocab) {
    task.code = choose(*task.picker, task.sampler, task.logits, n_vocab, task.token, task.error);
    if (task.code == SAMPLE_OK) {
        task.code = sample_caught(task.error, [&] { task.picker->check(task.token); });
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
        if (tasks[i].code != SAMPLE_OK) {
            return i;
        }
    }
    size_t failed = tasks.size();
    for (size_t i = 0; i < tasks.size(); ++i) {
        tasks[i].code = take(*tasks[i].picker, tasks[i].sampler, tasks[i].token, tasks[i].error);
        if (tasks[i].code != SAMPLE_OK) {
            failed = std::min(failed, i);
        }
    }
    return failed;
}

}  // namespace llama_cy
