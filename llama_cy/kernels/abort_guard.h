// What stands between a failed assert of llama.cpp and the end of the process.
#pragma once

#include <Python.h>

#include "system.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>

namespace llama_cy {

// How far this thread can unwind: not at all, out of what builds graphs, or out of anything.
enum { GUARD_NONE, GUARD_GRAPH, GUARD_CALL };

// A stack of these, the top in the lowest two bits: a callback within one call may make another.
inline thread_local unsigned long guards = GUARD_NONE;

inline void push_guard(int scope) {
    guards = guards << 2 | static_cast<unsigned long>(scope);
}

inline void pop_guard() {
    guards >>= 2;
}

inline bool can_unwind() {
    return (guards & 3) != GUARD_NONE;
}

inline bool has_guard() {
    return guards != GUARD_NONE;
}

// The folder of ggml that a message comes from, such as "cuda"; nothing where it is none of a backend's.
inline std::string backend_of(const char * message) {
    const char * end = std::strchr(message, ':');
    const char * name = std::strstr(message, "/ggml/src/ggml-");
    if (name == nullptr || (end != nullptr && name > end)) {
        return "";
    }
    name += sizeof("/ggml/src/ggml-") - 1;
    const char * folder = std::strchr(name, '/');
    if (folder != nullptr && (end == nullptr || folder < end)) {
        return std::string(name, folder);
    }
    return std::strncmp(name, "quants", 6) == 0 ? "quants" : "";
}

// These ask a GPU from the thread that called; the others compute on threads that would wait for the one that left.
inline bool computes_on_this_thread(const std::string & backend) {
    return backend == "cuda" || backend == "vulkan";
}

// Whether a GPU ever failed: what it holds may be past freeing.
inline std::atomic<bool> gpu_failed = false;

inline void say(const char * text) {
    size_t left = std::strlen(text);
    while (left > 0) {
        const long written = write_error(text, left);
        if (written <= 0) {
            return;
        }
        text += written;
        left -= static_cast<size_t>(written);
    }
}

// Defined by the module: writes the tracebacks of all threads to descriptor 2.
typedef void (*dump_function)();
inline dump_function dump_tracebacks = nullptr;

// The message first, as nothing can keep that from being written; the tracebacks need the GIL, and are waited for in vain
// if another thread holds it forever.
inline void last_words(const char * message) {
    say("llama_cy: llama.cpp ends the process: ");
    say(message);
    say("\n");
    if (dump_tracebacks != nullptr && Py_IsInitialized()) {
        std::thread([] {
            std::this_thread::sleep_for(std::chrono::seconds(2));
            std::abort();
        }).detach();
        dump_tracebacks();
    }
}

inline bool has_gpu_failed() {
    return gpu_failed;
}

inline void on_abort(const char * message) {
    const unsigned long scope = guards & 3;
    const std::string backend = backend_of(message);
    gpu_failed = gpu_failed || computes_on_this_thread(backend);
    if (scope == GUARD_CALL || (scope == GUARD_GRAPH && (backend.empty() || computes_on_this_thread(backend)))) {
        throw std::runtime_error(message);
    }
    last_words(message);
}

}  // namespace llama_cy
