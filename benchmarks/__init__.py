"""The benchmark suite: our loops against the same loop in C and against other bindings."""
