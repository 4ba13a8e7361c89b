// What a fork of a process with this package does about locks: the gates, and the few that are not theirs.
#include <mutex>

#include "adapter_gate.h"

int main() {
    llama_cy::adapter_gates gates;
    std::mutex others[8];
    for (auto & other : others) {
        other.lock();
    }
    gates.hold();
    gates.let_go();
    for (auto & other : others) {
        other.unlock();
    }
}
