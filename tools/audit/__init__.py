"""Every place where llama.cpp asserts, aborts or throws, and why none of them ends the process."""
