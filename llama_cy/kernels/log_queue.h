// Bounded queue between llama.cpp's log callback and Python's `logging`.
#pragma once

#include <Python.h>

#include <cstdint>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <string>

#include "ggml.h"

namespace llama_cy {

struct log_line {
    unsigned long thread;
    int level;
    std::string text;
};

// Somebody who reads this thread's lines while llama.cpp works; a false ends that work by an exception.
struct log_reader {
    bool (*see)(void * data, const char * text) = nullptr;
    void * data = nullptr;
};

inline thread_local log_reader the_log_reader;

inline void read_log(bool (*see)(void * data, const char * text), void * data) {
    the_log_reader = {see, data};
}

// The producer is any ggml thread and never takes the GIL; the lock is held for a push or a pop only,
// and never while waiting for the GIL, so the two can't deadlock.
class log_queue {
  public:
    void push(int level, const char * text) noexcept {
        try {
            const unsigned long thread = PyThread_get_thread_ident();
            std::lock_guard<std::mutex> guard(mutex_);
            if (level == GGML_LOG_LEVEL_CONT && !lines_.empty() && lines_.back().thread == thread) {
                lines_.back().text += text;
                return;
            }
            if (lines_.size() >= capacity) {
                lines_.pop_front();
                ++dropped_;
            }
            lines_.push_back({thread, level == GGML_LOG_LEVEL_CONT ? GGML_LOG_LEVEL_INFO : level, text});
        } catch (...) {
            // Out of memory: a log line is not worth an exception through C.
        }
    }

    bool pop(log_line & line) {
        std::lock_guard<std::mutex> guard(mutex_);
        if (lines_.empty()) {
            return false;
        }
        line = std::move(lines_.front());
        lines_.pop_front();
        return true;
    }

    uint64_t take_dropped() {
        std::lock_guard<std::mutex> guard(mutex_);
        const uint64_t n = dropped_;
        dropped_ = 0;
        return n;
    }

    // For the length of a fork: the child would wait forever for who pushes in the parent.
    void hold() { mutex_.lock(); }
    void let_go() { mutex_.unlock(); }

    static void callback(ggml_log_level level, const char * text, void * user_data) {
        static_cast<log_queue *>(user_data)->push(level, text);
        const log_reader reader = the_log_reader;
        if (reader.see != nullptr && !reader.see(reader.data, text)) {
            throw std::runtime_error("ended by the caller");
        }
    }

  private:
    static constexpr size_t capacity = 8192;
    std::mutex mutex_;
    std::deque<log_line> lines_;
    uint64_t dropped_ = 0;
};

// Never destroyed: ggml's own static destructors may still log.
inline log_queue & the_log_queue() {
    static log_queue * queue = new log_queue();
    return *queue;
}

}  // namespace llama_cy
