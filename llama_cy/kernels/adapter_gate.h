// Who goes through the adapters of a model, and who changes which ones there are: llama.cpp does both without a lock.
#pragma once

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
    // How many forks lie between the process that imported the module and the one that this gate is for.
    const int forks;

    explicit adapter_gate(int forks) : forks(forks) {}

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

    // A fork in the middle of a change would leave the child with half of it.
    void hold() {
        std::unique_lock<std::mutex> lock(mutex_);
        moved_.wait(lock, [this] { return !changing_; });
        lock.release();
    }

    void let_go() { mutex_.unlock(); }

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
    adapter_gates() { fill(); }

    adapter_gate * of(const void * model) { return at(reinterpret_cast<std::uintptr_t>(model) / 64 % SIZE); }

    void hold() {
        for (std::size_t i = 0; i < SIZE; i++) {
            at(i)->hold();
        }
    }

    void let_go() {
        for (std::size_t i = 0; i < SIZE; i++) {
            at(i)->let_go();
        }
    }

    // In a forked child nobody is left who could open them.
    void renew() {
        forks_++;
        fill();
    }

  private:
    // A fork holds them all, and ThreadSanitizer ends a thread that holds more than 64 locks, or hangs.
    static constexpr std::size_t SIZE = 32;

    // Nothing is destroyed, here or at exit: threads may wait.
    void fill() {
        for (std::size_t i = 0; i < SIZE; i++) {
            new (at(i)) adapter_gate(forks_);
        }
    }

    adapter_gate * at(std::size_t i) { return reinterpret_cast<adapter_gate *>(memory_) + i; }

    int forks_ = 0;
    alignas(adapter_gate) unsigned char memory_[SIZE * sizeof(adapter_gate)];
};

}  // namespace llama_cy
