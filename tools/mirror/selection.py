"""What is mirrored: the headers, and the functions of each."""

from __future__ import annotations

# In dependency order: a pxd cimports only from those before it.
HEADERS = {
    "ggml/include/ggml.h": "ggml",
    "ggml/include/gguf.h": "gguf",
    "ggml/include/ggml-backend.h": "ggml_backend",
    "ggml/include/ggml-cpu.h": "ggml_cpu",
    "ggml/include/ggml-opt.h": "ggml_opt",
    "include/llama.h": "llama",
}

# Of ggml.h, what a binding needs: no graph building. Of the other headers, every active function.
GGML_FUNCTIONS = frozenset(
    {
        "ggml_set_abort_callback",
        "ggml_status_to_string",
        "ggml_version",
        "ggml_commit",
        "ggml_fp16_to_fp32",
        "ggml_fp32_to_fp16",
        "ggml_fp16_to_fp32_row",
        "ggml_fp32_to_fp16_row",
        "ggml_fp32_to_bf16",
        "ggml_bf16_to_fp32",
        "ggml_bf16_to_fp32_row",
        "ggml_fp32_to_bf16_row",
        "ggml_time_init",
        "ggml_time_ms",
        "ggml_time_us",
        "ggml_cycles",
        "ggml_cycles_per_ms",
        "ggml_fopen",
        "ggml_guid_matches",
        "ggml_nelements",
        "ggml_nrows",
        "ggml_nbytes",
        "ggml_nbytes_pad",
        "ggml_blck_size",
        "ggml_type_size",
        "ggml_row_size",
        "ggml_type_name",
        "ggml_op_name",
        "ggml_op_symbol",
        "ggml_unary_op_name",
        "ggml_glu_op_name",
        "ggml_op_desc",
        "ggml_element_size",
        "ggml_is_quantized",
        "ggml_ftype_to_ggml_type",
        "ggml_is_transposed",
        "ggml_is_permuted",
        "ggml_is_empty",
        "ggml_is_view",
        "ggml_is_scalar",
        "ggml_is_vector",
        "ggml_is_matrix",
        "ggml_is_3d",
        "ggml_n_dims",
        "ggml_is_contiguous",
        "ggml_is_contiguous_rows",
        "ggml_is_contiguously_allocated",
        "ggml_are_same_shape",
        "ggml_are_same_stride",
        "ggml_tensor_overhead",
        "ggml_validate_row_data",
        "ggml_init",
        "ggml_reset",
        "ggml_free",
        "ggml_used_mem",
        "ggml_get_no_alloc",
        "ggml_set_no_alloc",
        "ggml_get_mem_buffer",
        "ggml_get_mem_size",
        "ggml_get_max_tensor_size",
        "ggml_new_tensor",
        "ggml_new_tensor_1d",
        "ggml_new_tensor_2d",
        "ggml_new_tensor_3d",
        "ggml_new_tensor_4d",
        "ggml_dup_tensor",
        "ggml_view_tensor",
        "ggml_get_first_tensor",
        "ggml_get_next_tensor",
        "ggml_get_tensor",
        "ggml_unravel_index",
        "ggml_get_unary_op",
        "ggml_get_glu_op",
        "ggml_get_data",
        "ggml_get_data_f32",
        "ggml_get_name",
        "ggml_set_name",
        "ggml_set_input",
        "ggml_set_output",
        "ggml_set_param",
        "ggml_set_loss",
        "ggml_set_zero",
        "ggml_graph_size",
        "ggml_graph_node",
        "ggml_graph_nodes",
        "ggml_graph_n_nodes",
        "ggml_graph_get_tensor",
        "ggml_log_get",
        "ggml_log_set",
        "ggml_quantize_init",
        "ggml_quantize_free",
        "ggml_quantize_requires_imatrix",
        "ggml_quantize_chunk",
        "ggml_get_type_traits",
        "ggml_threadpool_params_default",
        "ggml_threadpool_params_init",
        "ggml_threadpool_params_match",
    }
)

# Active functions of the other headers that are not mirrored, and why.
SKIPPED = {
    "ggml_threadpool_get_n_threads": "declared in ggml-cpu.h, but defined nowhere in llama.cpp",
}

# Functions that exist to be passed as a callback: their address is mirrored as well, as <name>_address.
CALLBACKS = frozenset(
    {
        "ggml_opt_get_default_optimizer_params",
        "ggml_opt_get_constant_optimizer_params",
        "ggml_opt_epoch_callback_progress_bar",
        "llama_opt_param_filter_all",
    }
)

# Enums that Python code sees as IntEnum classes: every one of llama.h, and these.
PYTHON_ENUMS = {
    "ggml_type": "GGMLType",
    "ggml_status": "Status",
    "ggml_log_level": "LogLevel",
    "ggml_sched_priority": "SchedPriority",
    "gguf_type": "GGUFType",
    "ggml_backend_dev_type": "DeviceType",
    "ggml_numa_strategy": "NumaStrategy",
    "ggml_opt_loss_type": "OptLossType",
    "ggml_opt_build_type": "OptBuildType",
    "ggml_opt_optimizer_type": "OptOptimizerType",
}
PYTHON_FLAGS = frozenset({"llama_token_attr"})


def is_selected(header: str, function: str) -> bool:
    if header == "ggml":
        return function in GGML_FUNCTIONS
    return function not in SKIPPED


def selected_names() -> set[str]:
    """Return every function that this file names."""
    return {*GGML_FUNCTIONS, *SKIPPED, *CALLBACKS}
