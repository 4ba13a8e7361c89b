"""The functions of llama.h that stay without a wrapper, and why."""

NOT_WRAPPED = {
    "llama_backend_free": "frees tables of the quantizer that the next quantization makes again; nothing else refers "
    "to it, and another user in the process may be quantizing",
    "llama_batch_get_one": "makes a batch without positions and sequences around borrowed memory; `Context.decode` "
    "takes tokens and gives them positions itself",
    "llama_get_model": "gives back the pointer that the context was made from; `Context.model` is the object",
    "llama_sampler_init_grammar": "takes exponential time within one call where a text can be read in ever more ways; "
    "`Sampler.grammar` follows the same grammars by itself",
    "llama_sampler_init_grammar_lazy_patterns": "takes exponential time as `llama_sampler_init_grammar` does; "
    "`Sampler.grammar_lazy` waits for the same triggers by itself",
    "llama_log_get": "gives back the callback set last, which is always ours; `llama_cy.log` delivers its lines",
    "llama_perf_context_print": "writes the numbers of `llama_perf_context` as text to the log",
    "llama_perf_sampler_print": "writes the numbers of `llama_perf_sampler` as text to the log",
}

# `_llama` calls them itself and not through the table, so the counter does not see them: these tests show their effect.
IN_THE_ENGINE_ROOM = {
    "llama_log_set": "tests/unit/test_log.py::test_a_failure_says_why",
    "llama_print_system_info": "tests/unit/test_public_api.py::test_version_tells_what_runs",
}

# A test calls them, but none can fail without them.
NOT_NOTICED = {
    "llama_backend_init": "backends that are compiled in are found by whoever asks; it keeps the GIL free meanwhile",
    "llama_attach_threadpool": "without it llama.cpp starts threads for each decode, which is slower and nothing else",
    "llama_model_default_params": "what differs from zero in it is given anew, or matters on a GPU only",
    "llama_numa_init": "it moves threads on a machine with several nodes, and shows nowhere else",
    "llama_time_us": "a microsecond more cancels out in the difference of two times",
}
