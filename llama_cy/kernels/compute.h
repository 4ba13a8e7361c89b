// llama_decode and its kin, with what they throw as a code.
#pragma once

#include "llama_cy_api.h"

#include <climits>
#include <exception>
#include <string>

namespace llama_cy {

// No code of llama.cpp's.
constexpr int THROWN = INT_MIN;

template <typename Call> int caught(std::string & thrown, Call call) {
    try {
        return call();
    } catch (const std::exception & error) {
        thrown = error.what();
    } catch (...) {
        thrown = "an exception of no known type";
    }
    return THROWN;
}

inline int decode(llama_context * context, llama_batch batch, std::string & thrown) {
    return caught(thrown, [=] { return llama_decode(context, batch); });
}

inline int encode(llama_context * context, llama_batch batch, std::string & thrown) {
    return caught(thrown, [=] { return llama_encode(context, batch); });
}

inline int process(llama_context * context, llama_process_type type, llama_batch_ext * batch, std::string & thrown) {
    return caught(thrown, [=] { return llama_process(context, type, batch); });
}

}  // namespace llama_cy
