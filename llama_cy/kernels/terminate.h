// What happens to an exception that nobody catches, as on a thread of ggml's. ggml's own handler would start a debugger.
#pragma once

#include <cstdlib>
#include <cstring>
#include <exception>

namespace llama_cy {

typedef void (*words_function)(const char * message);

// Writes why, and where Python was.
inline words_function say_last_words = nullptr;

[[noreturn]] inline void on_terminate() {
    const char * message = "std::terminate was called";
    static char text[512];
    if (std::exception_ptr current = std::current_exception()) {
        try {
            std::rethrow_exception(current);
        } catch (const std::exception & error) {
            std::strncpy(text, error.what(), sizeof(text) - 1);
            message = text;
        } catch (...) {
            message = "an exception that nobody catches";
        }
    }
    say_last_words(message);
    std::abort();
}

inline void install_terminate(words_function words) {
    say_last_words = words;
    std::set_terminate(on_terminate);
}

}  // namespace llama_cy
