// The turns of a loop, taken by a thread while the caller works on those before.
#pragma once

#include "ahead.h"
#include "pick.h"
#include "sampler_tree.h"
#include "take_turn.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace llama_cy {

// How long a thread that has to wait stays awake.
constexpr int LINGER_US = 100;

typedef void (*scope_function)(int);
typedef void (*end_function)();

struct ahead_turn {
    loop_turn turn;
    // What choosing the token came to; other than SAMPLE_OK, the turn is void.
    int sampled = SAMPLE_OK;
    std::string what;
    // The sampler as it is behind this token.
    llama_sampler * sampler = nullptr;
    recent_tokens recent;
    bool lost = false;

    bool last() const { return sampled != SAMPLE_OK || turn.kind != TURN_TOKEN; }
    bool touched_memory() const { return sampled == SAMPLE_OK && (turn.decoded || turn.code < 0 || turn.code > 1); }
};

class run_ahead : public decoding_ahead {
  public:
    run_ahead(const turn_taker & taker, const token_picker & picker, const llama_sampler * sampler, size_t bound,
              const std::atomic<bool> & cancelled, scope_function begin, int scope, end_function end)
        : taker_(taker), picker_(picker), sampler_(llama_sampler_clone(sampler)), bound_(bound), cancelled_(cancelled) {
        try {
            picker_.find_grammars(sampler_);
            thread_ = std::thread([this, begin, scope, end] {
                begin(scope);
                run();
                end();
            });
        } catch (...) {
            llama_sampler_free(sampler_);
            throw;
        }
    }

    run_ahead(const run_ahead &) = delete;
    run_ahead & operator=(const run_ahead &) = delete;

    ~run_ahead() override {
        stop();
        for (const ahead_turn & turn : ready_) {
            llama_sampler_free(turn.sampler);
        }
        for (llama_sampler * sampler : spare_) {
            llama_sampler_free(sampler);
        }
        llama_sampler_free(sampler_);
    }

    // Waits a moment for the next turn; returns whether there was one. Its sampler goes back with give().
    bool next(ahead_turn & turn, int milliseconds) {
        linger([this] { return n_ready_.load(std::memory_order_relaxed) > 0; });
        std::unique_lock<std::mutex> lock(mutex_);
        if (!came_.wait_for(lock, std::chrono::milliseconds(milliseconds), [this] { return failed_ || !ready_.empty(); })) {
            return false;
        }
        if (ready_.empty()) {
            throw std::bad_alloc();
        }
        turn = std::move(ready_.front());
        ready_.pop_front();
        n_ready_.store(ready_.size(), std::memory_order_relaxed);
        // Whom it wakes needs the lock at once.
        lock.unlock();
        went_.notify_one();
        return true;
    }

    // Brings the caller's own sampler to where it is behind a turn.
    void give(ahead_turn & turn, llama_sampler * sampler, token_picker & picker) {
        llama_sampler_copy(turn.sampler, sampler);
        std::swap(picker.plan.recent, turn.recent);
        picker.lost = turn.lost;
        std::lock_guard<std::mutex> lock(mutex_);
        spare_.push_back(turn.sampler);
        turn.sampler = nullptr;
    }

    void stop() override {
        std::lock_guard<std::mutex> ending(ending_);
        if (!thread_.joinable()) {
            return;
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stopping_ = true;
            went_.notify_one();
        }
        thread_.join();
    }

    bool beyond() const override {
        for (const ahead_turn & turn : ready_) {
            if (turn.touched_memory()) {
                return true;
            }
        }
        return false;
    }

  private:
    // Stays awake for a moment: to sleep and be woken takes as long as a small decode, and may end on the other's core.
    template <typename Condition> static void linger(Condition done) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(LINGER_US);
        while (!done() && std::chrono::steady_clock::now() < end) {
            std::this_thread::yield();
        }
    }

    void run() {
        try {
            work();
        } catch (...) {
            std::lock_guard<std::mutex> lock(mutex_);
            failed_ = true;
            came_.notify_one();
        }
    }

    void work() {
        bool more = true;
        while (more) {
            ahead_turn turn;
            linger([this] { return n_ready_.load(std::memory_order_relaxed) < bound_; });
            {
                std::unique_lock<std::mutex> lock(mutex_);
                went_.wait(lock, [this] { return stopping_ || ready_.size() < bound_; });
                if (stopping_) {
                    return;
                }
                if (!spare_.empty()) {
                    turn.sampler = spare_.back();
                    spare_.pop_back();
                }
            }
            if (cancelled_.load()) {
                turn.turn.kind = TURN_CANCELLED;
            } else {
                take(turn);
            }
            more = !turn.last();
            try {
                save(turn);
                std::unique_lock<std::mutex> lock(mutex_);
                ready_.push_back(std::move(turn));
                n_ready_.store(ready_.size(), std::memory_order_relaxed);
                lock.unlock();
                came_.notify_one();
            } catch (...) {
                llama_sampler_free(turn.sampler);
                throw;
            }
        }
    }

    void take(ahead_turn & turn) {
        turn.sampled = sample_caught(turn.what, [&] {
            const float * row = taker_.row();
            if (row == nullptr) {
                throw sample_error(SAMPLE_UNSELECTED, "there are no logits to sample from; decode something first");
            }
            llama_token token = picker_.pick(sampler_, row, taker_.n_vocab);
            if (token == LLAMA_TOKEN_NULL) {
                throw sample_error(SAMPLE_UNSELECTED, "no sampler selected a token; end the chain with greedy() or dist()");
            }
            picker_.accept(sampler_, token);
            taker_.take(turn.turn, token, row);
        });
    }

    void save(ahead_turn & turn) {
        if (turn.sampler == nullptr) {
            turn.sampler = llama_sampler_clone(sampler_);
        } else {
            llama_sampler_copy(sampler_, turn.sampler);
        }
        turn.recent = picker_.plan.recent;
        turn.lost = picker_.lost;
    }

    turn_taker taker_;
    token_picker picker_;
    llama_sampler * sampler_;
    const size_t bound_;
    const std::atomic<bool> & cancelled_;
    std::thread thread_;
    std::mutex mutex_;
    std::mutex ending_;
    // Something came to be ready, or went.
    std::condition_variable came_;
    std::condition_variable went_;
    std::deque<ahead_turn> ready_;
    std::atomic<size_t> n_ready_{0};
    std::vector<llama_sampler *> spare_;
    bool stopping_ = false;
    // Whether there was no memory to go on with.
    bool failed_ = false;
};

}  // namespace llama_cy
