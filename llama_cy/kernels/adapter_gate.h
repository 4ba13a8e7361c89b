// Who goes through the adapters of a model, and who changes which ones there are: llama.cpp does both without a lock.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

namespace llama_cy {

// Any number may read, or one may change. Who wants to change goes first, as contexts that come and go would keep it
// waiting forever. Nobody waits for anything else while holding it, the GIL included.
class adapter_gate {
  public:
    void begin_read() {
        std::unique_lock<std::mutex> lock(mutex_);
        moved_.wait(lock, [this] { return !changing_ && n_waiting_ == 0; });
        n_reading_++;
    }

    void end_read() {
        std::lock_guard<std::mutex> lock(mutex_);
        n_reading_--;
        moved_.notify_all();
    }

    void begin_change() {
        std::unique_lock<std::mutex> lock(mutex_);
        n_waiting_++;
        moved_.wait(lock, [this] { return !changing_ && n_reading_ == 0; });
        n_waiting_--;
        changing_ = true;
    }

    void end_change() {
        std::lock_guard<std::mutex> lock(mutex_);
        changing_ = false;
        moved_.notify_all();
    }

  private:
    std::mutex mutex_;
    std::condition_variable moved_;
    int n_reading_ = 0;
    int n_waiting_ = 0;
    bool changing_ = false;
};

// The gates of all models. Models whose addresses are alike share one; all handles of a borrowed model have the same.
class adapter_gates {
  public:
    adapter_gates() { renew(); }

    adapter_gate * of(const void * model) { return at(reinterpret_cast<std::uintptr_t>(model) / 64 % SIZE); }

    // In a forked child nobody is left who could open them. Nothing is destroyed, here or at exit: threads may wait.
    void renew() {
        for (std::size_t i = 0; i < SIZE; i++) {
            new (at(i)) adapter_gate;
        }
    }

  private:
    static constexpr std::size_t SIZE = 64;

    adapter_gate * at(std::size_t i) { return reinterpret_cast<adapter_gate *>(memory_) + i; }

    alignas(adapter_gate) unsigned char memory_[SIZE * sizeof(adapter_gate)];
};

// A context's part. llama.cpp reads in the first computation after a change of the context's adapters, control vectors
// or samplers, before any operation of it; all the others pass without a lock.
class adapter_reader {
  public:
    adapter_gate * gate = nullptr;
    // Whether the next computation reads.
    bool due = false;

    void begin() {
        if (due) {
            gate->begin_read();
            reading_.store(true, std::memory_order_relaxed);
        }
    }

    // At each operation: Python code may run now, which may load an adapter or let one go.
    void has_read() {
        if (reading_.load(std::memory_order_relaxed) && reading_.exchange(false)) {
            due = false;
            gate->end_read();
        }
    }

    void end(bool computed) {
        // A batch that was refused may have been so before.
        const bool still = due && !computed;
        has_read();
        due = still;
    }

  private:
    std::atomic<bool> reading_{false};
};

}  // namespace llama_cy
