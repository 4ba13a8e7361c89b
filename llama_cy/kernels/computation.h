// What a computation of a context has to do with other threads, and with other processes.
#pragma once

#include "adapter_gate.h"

#include <atomic>
#include <stdexcept>

namespace llama_cy {

// llama.cpp goes through the model's adapters in the first computation after a change of the context's adapters, control
// vectors or samplers, before any operation of it; all others pass without a lock.
class computation {
  public:
    // Whether the next one does.
    bool due = false;

    void join(adapter_gate * gate) {
        gate_ = gate;
        forks_ = gate->forks;
    }

    void begin() {
        check_fork();
        if (due) {
            gate_->begin_read();
            reading_.store(true, std::memory_order_relaxed);
        }
    }

    // At each operation: Python code may run now, which may load an adapter or let one go.
    void has_read() {
        if (reading_.load(std::memory_order_relaxed) && reading_.exchange(false)) {
            due = false;
            gate_->end_read();
        }
    }

    void end(bool computed) {
        // A batch that was refused may have been so before.
        const bool still = due && !computed;
        has_read();
        due = still;
    }

    // Python code may fork: the child has none of the threads that compute, and would wait for them.
    void check_fork() const {
        if (gate_->forks != forks_) {
            throw std::runtime_error("this process was forked meanwhile");
        }
    }

  private:
    adapter_gate * gate_ = nullptr;
    int forks_ = 0;
    std::atomic<bool> reading_{false};
};

}  // namespace llama_cy
