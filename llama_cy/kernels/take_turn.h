// One turn of a loop, behind the choice of a token: does it end the loop, and if not, decode it.
#pragma once

#include "compute.h"
#include "llama_cy_api.h"
#include "logprobs.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace llama_cy {

enum turn_kind {
    TURN_TOKEN,
    // The last one: as many as were asked for, or there is no place for more.
    TURN_LENGTH,
    TURN_EOG,
    TURN_STOP,
    TURN_CANCELLED,
    TURN_FAILED,
};

struct loop_turn {
    turn_kind kind = TURN_TOKEN;
    llama_token token = LLAMA_TOKEN_NULL;
    // Whether the memory holds the token.
    bool decoded = false;
    // What llama_decode returned, and the message of what it threw.
    int code = 0;
    std::string thrown;
    token_logprob logprob;
};

class turn_taker {
  public:
    llama_context * context = nullptr;
    computation * computing = nullptr;
    const llama_vocab * vocab = nullptr;
    int32_t n_vocab = 0;
    std::vector<llama_token> stop_tokens;
    bool ignore_eog = false;
    // Tokens still to generate, below zero for any number, and places for them.
    int64_t left = -1;
    int64_t room = 0;
    // Alternatives to tell the log probabilities of, below zero for none at all.
    int64_t n_best = -1;
    // The logits that come first, if they are not the context's.
    const float * kept = nullptr;

    const float * row() const { return kept != nullptr ? kept : llama_get_logits_ith(context, -1); }

    void take(loop_turn & turn, llama_token token, const float * row) {
        turn.token = token;
        turn.decoded = false;
        turn.code = 0;
        if (!ignore_eog && llama_vocab_is_eog(vocab, token)) {
            turn.kind = TURN_EOG;
            return;
        }
        if (std::find(stop_tokens.begin(), stop_tokens.end(), token) != stop_tokens.end()) {
            turn.kind = TURN_STOP;
            return;
        }
        if (n_best >= 0) {
            turn.logprob = reader_.read(row, static_cast<size_t>(n_vocab), token, static_cast<size_t>(n_best));
        }
        if (room <= 0) {
            turn.kind = TURN_LENGTH;
            return;
        }
        decode(turn);
    }

  private:
    void decode(loop_turn & turn) {
        llama_batch batch;
        std::memset(&batch, 0, sizeof(batch));
        batch.n_tokens = 1;
        batch.token = &turn.token;
        turn.code = llama_cy::decode(context, batch, *computing, turn.thrown);
        if (turn.code == 0) {
            kept = nullptr;
            turn.decoded = true;
            --room;
            turn.kind = --left == 0 ? TURN_LENGTH : TURN_TOKEN;
        } else if (turn.code == 1) {
            // Hybrids may be full before n_ctx tokens; nothing of what was generated is lost.
            turn.kind = TURN_LENGTH;
        } else {
            turn.kind = turn.code == 2 ? TURN_CANCELLED : TURN_FAILED;
        }
    }

    logprob_reader reader_;
};

}  // namespace llama_cy
