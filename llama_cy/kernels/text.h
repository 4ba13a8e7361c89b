// Bytes of tokens in, text out: whole UTF-8 characters only, and never a part of a stop string.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace llama_cy {

class text_assembler {
  public:
    void add_stop(const std::string & stop) {
        stops_.push_back(stop);
        longest_ = std::max(longest_, stop.size());
    }

    // Appends a piece; returns true when a stop string is complete, which ends the text in front of it. Of several the
    // one that is complete first counts, as if bytes came one by one: where tokens are split must not matter.
    bool feed(const char * piece, size_t size) {
        const size_t before = held_.size();
        held_.append(piece, size);
        if (stops_.empty()) {
            return false;
        }
        // A match must end in the new bytes, so it starts at most one stop string earlier.
        const size_t from = before >= longest_ ? before - longest_ + 1 : 0;
        size_t begin = 0;
        size_t end = std::string::npos;
        for (const auto & stop : stops_) {
            const size_t at = held_.find(stop, from);
            if (at == std::string::npos || at + stop.size() > end) {
                continue;
            }
            begin = at + stop.size() < end ? at : std::min(begin, at);
            end = at + stop.size();
        }
        if (end == std::string::npos) {
            return false;
        }
        held_.resize(begin);
        return true;
    }

    // Bytes that no later piece can take back: a suffix that may grow into a stop string or a character stays.
    size_t ready() const {
        size_t keep = 0;
        for (const auto & stop : stops_) {
            for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
                if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) {
                    keep = n;
                }
            }
        }
        const size_t size = held_.size() - keep;
        return size - incomplete(size);
    }

    const char * data() const { return held_.data(); }
    size_t size() const { return held_.size(); }
    void take(size_t size) { held_.erase(0, size); }

  private:
    // Length of the unfinished UTF-8 sequence at the end of the first `size` bytes.
    size_t incomplete(size_t size) const {
        for (size_t back = 1; back <= std::min<size_t>(3, size); ++back) {
            const unsigned char byte = static_cast<unsigned char>(held_[size - back]);
            if ((byte & 0xC0) == 0x80) {
                continue;
            }
            const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
            return length > back ? back : 0;
        }
        return 0;
    }

    std::string held_;
    std::vector<std::string> stops_;
    size_t longest_ = 0;
};

}  // namespace llama_cy
