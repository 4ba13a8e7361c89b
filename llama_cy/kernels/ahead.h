// A thread that decodes ahead of the caller, as far as a context must know it.
#pragma once

namespace llama_cy {

class decoding_ahead {
  public:
    virtual ~decoding_ahead() = default;
    // Returns when the thread has ended, after the decode at hand.
    virtual void stop() = 0;
    // Whether it went beyond what the caller has seen.
    virtual bool beyond() const = 0;
};

}  // namespace llama_cy
