// llama_decode and its kin, with what they throw as a code.
#pragma once

#include "computation.h"
#include "llama_cy_api.h"
#include "sample_error.h"

#include <climits>
#include <exception>
#include <string>
#include <vector>

namespace llama_cy {

// No code of llama.cpp's.
constexpr int THROWN = INT_MIN;

template <typename Call> int caught(std::string & thrown, Call call) {
    try {
        return call();
    } catch (const std::exception & error) {
        note(thrown, error.what());
    } catch (...) {
        note(thrown, "an exception of no known type");
    }
    return THROWN;
}

template <typename Call> int computed(computation & computing, std::string & thrown, Call call) {
    const int code = caught(thrown, [&] {
        computing.begin();
        return call();
    });
    computing.end(code == 0);
    return code;
}

inline int decode(llama_context * context, llama_batch batch, computation & computing, std::string & thrown) {
    return computed(computing, thrown, [=] { return llama_decode(context, batch); });
}

inline int encode(llama_context * context, llama_batch batch, computation & computing, std::string & thrown) {
    return computed(computing, thrown, [=] { return llama_encode(context, batch); });
}

inline int process(llama_context * context, llama_process_type type, llama_batch_ext * batch, computation & computing,
                   std::string & thrown) {
    return computed(computing, thrown, [=] { return llama_process(context, type, batch); });
}

// The last position of each sequence.
inline void mark(llama_context * context, std::vector<llama_pos> & ends) {
    llama_memory_t memory = llama_get_memory(context);
    ends.assign(memory == nullptr ? 0 : llama_n_seq_max(context), -1);
    for (size_t id = 0; id < ends.size(); id++) {
        ends[id] = llama_memory_seq_pos_max(memory, static_cast<llama_seq_id>(id));
    }
}

// Forget what came behind a mark. A GPU computes to the end whatever a callback says. Where a memory can't go back, as a
// recurrent one, the sequence is forgotten.
inline void take_back(llama_context * context, const std::vector<llama_pos> & ends) {
    llama_memory_t memory = llama_get_memory(context);
    for (size_t i = 0; i < ends.size(); i++) {
        const auto id = static_cast<llama_seq_id>(i);
        if (llama_memory_seq_pos_max(memory, id) > ends[i] && !llama_memory_seq_rm(memory, id, ends[i] + 1, -1)) {
            llama_memory_seq_rm(memory, id, -1, -1);
        }
    }
}

}  // namespace llama_cy
