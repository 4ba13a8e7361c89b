// What sampling comes to, other than a token.
#pragma once

#include <stdexcept>
#include <string>

namespace llama_cy {

enum sample_code {
    SAMPLE_OK,
    // No sampler of the chain selected a token.
    SAMPLE_UNSELECTED,
    // All tokens have a logit of minus infinity.
    SAMPLE_NOTHING_LEFT,
    SAMPLE_REFUSED,
    // A grammar took what it does not allow, and only a reset helps.
    SAMPLE_LOST,
    SAMPLE_BAD_VALUE,
    // A grammar by which a text can be read in more ways than anybody can follow.
    SAMPLE_AMBIGUOUS,
    SAMPLE_THREW,
};

struct sample_error : std::runtime_error {
    sample_code code;
    sample_error(sample_code code, const char * what) : std::runtime_error(what), code(code) {}
};

// Keep a message, or none where there is no memory even for that.
inline void note(std::string & message, const char * text) noexcept {
    try {
        message = text;
    } catch (const std::exception &) {
        message.clear();
    }
}

template <typename Call> sample_code sample_caught(std::string & thrown, Call call) {
    try {
        call();
        return SAMPLE_OK;
    } catch (const sample_error & error) {
        note(thrown, error.what());
        return error.code;
    } catch (const std::overflow_error & error) {
        note(thrown, error.what());
        return SAMPLE_AMBIGUOUS;
    } catch (const std::domain_error & error) {
        note(thrown, error.what());
        return SAMPLE_BAD_VALUE;
    } catch (const std::exception & error) {
        note(thrown, error.what());
    } catch (...) {
        note(thrown, "an exception of no known type");
    }
    return SAMPLE_THREW;
}

}  // namespace llama_cy
