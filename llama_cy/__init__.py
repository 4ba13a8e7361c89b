"""Python bindings compiled straight against the llama.cpp C API.

The import starts no driver of a GPU: the first model does, or the first question about devices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from . import variants

# First, because every other module fetches the function table from it.
try:
    variants.load()
    from . import _llama
except ImportError as error:
    if list(Path(__file__).parent.glob("_llama.*.so")):
        raise
    if _archive := getattr(__spec__ and __spec__.loader, "archive", None):
        raise ImportError(
            f"llama_cy can't be imported out of {_archive}: a system loads compiled code from files only. "
            "Pack the program with something that unpacks it, such as shiv or PyInstaller, or leave llama_cy outside"
        ) from error
    raise ImportError(
        f"llama_cy is not compiled in {Path(__file__).parent}: this is its source tree. "
        "Run `make build` there, or start Python in another folder to use the installed package"
    ) from error
from . import abort, log  # noqa: F401 - abort installs what an assert that fails calls
from .adapter import LoraAdapter
from .adapter_file import write_lora
from .async_stream import AsyncTextStream, AsyncTokenLoop
from .batch import Batch
from .batch_ext import BatchExt
from .batch_sampling import sample_rows
from .candidates import Candidates
from .capsule import from_capsule, to_capsule
from .chat import chat_apply_template, chat_builtin_templates
from .completion import Completion, ContextPerf, SamplerPerf, Timings, TokenLogprob
from .context import Context
from .context_pool import ContextPool
from .control_vector import ControlVector
from .devices import Device, devices
from .embedding import Embedder
from .engine import Engine, InferenceBackend, engines, load, load_async
from .enums import (
    AttentionType,
    ContextType,
    DeviceType,
    FlashAttnType,
    Ftype,
    GGMLType,
    GGUFType,
    LazyMode,
    LoadMode,
    LogLevel,
    ModelKvOverrideType,
    ModelMetaKey,
    NumaStrategy,
    OptBuildType,
    OptLossType,
    OptOptimizerType,
    PoolingType,
    ProcessType,
    RopeScalingType,
    RopeType,
    SchedPriority,
    SplitMode,
    Status,
    TokenAttr,
    TokenType,
    VocabType,
)
from .errors import (
    BackendError,
    ClosedError,
    ContextBusyError,
    ContextError,
    DecodeAborted,
    DecodeError,
    GrammarError,
    InvalidBatchError,
    KVCacheFullError,
    LlamaError,
    ModelLoadError,
    PoolTimeoutError,
    StateError,
)
from .importance_matrix import ImportanceMatrix
from .json_schema import json_schema_to_grammar
from .library import (
    flash_attn_type_name,
    ftype_name,
    llama_cpp_version,
    load_mode_from_str,
    load_mode_name,
    max_devices,
    max_parallel_sequences,
    max_tensor_buft_overrides,
    numa_init,
    split_path,
    split_prefix,
    supports_gpu_offload,
    supports_mlock,
    supports_mmap,
    supports_rpc,
)
from .lifetime import live_objects, start_backends
from .llama_cpp_engine import LlamaCppEngine
from .loop import TokenLoop
from .memory import Memory
from .memory_plan import DevicePlan, MemoryPlan, fit_gpu_layers, plan_memory
from .model import Model
from .numpy_engine import NumpyEngine
from .placement import MemoryUse, Placed
from .quantize import Quantization, QuantizedTensor, quantize
from .reranking import Ranking, Reranker
from .sampler import Sampler
from .sampler_chain import SamplerChain, sampling
from .sampling_plan import SamplingPlan
from .snapshot import Snapshot
from .speed import Speed, Trial, Tuning, measure_speed, tune
from .state import State
from .stream import TextStream
from .tensor import Tensor
from .threadpool import Threadpool
from .training import Trainer
from .training_result import EpochResult, TrainingResult
from .vocab import Vocab

__version__ = "0.1.0"

__all__ = [
    "AsyncTextStream",
    "AsyncTokenLoop",
    "AttentionType",
    "BackendError",
    "Batch",
    "BatchExt",
    "Candidates",
    "ClosedError",
    "Completion",
    "Context",
    "ContextBusyError",
    "ContextError",
    "ContextPerf",
    "ContextPool",
    "ContextType",
    "ControlVector",
    "DecodeAborted",
    "DecodeError",
    "Device",
    "DevicePlan",
    "DeviceType",
    "Embedder",
    "Engine",
    "EpochResult",
    "FlashAttnType",
    "Ftype",
    "GGMLType",
    "GGUFType",
    "GrammarError",
    "ImportanceMatrix",
    "InferenceBackend",
    "InvalidBatchError",
    "KVCacheFullError",
    "LazyMode",
    "LlamaCppEngine",
    "LlamaError",
    "LoadMode",
    "LogLevel",
    "LoraAdapter",
    "Memory",
    "MemoryPlan",
    "MemoryUse",
    "Model",
    "ModelKvOverrideType",
    "ModelLoadError",
    "ModelMetaKey",
    "NumaStrategy",
    "NumpyEngine",
    "OptBuildType",
    "OptLossType",
    "OptOptimizerType",
    "Placed",
    "PoolTimeoutError",
    "PoolingType",
    "ProcessType",
    "Quantization",
    "QuantizedTensor",
    "Ranking",
    "Reranker",
    "RopeScalingType",
    "RopeType",
    "Sampler",
    "SamplerChain",
    "SamplerPerf",
    "SamplingPlan",
    "SchedPriority",
    "Snapshot",
    "Speed",
    "SplitMode",
    "State",
    "StateError",
    "Status",
    "Tensor",
    "TextStream",
    "Threadpool",
    "Timings",
    "TokenAttr",
    "TokenLogprob",
    "TokenLoop",
    "TokenType",
    "Trainer",
    "TrainingResult",
    "Trial",
    "Tuning",
    "Version",
    "Vocab",
    "VocabType",
    "chat_apply_template",
    "chat_builtin_templates",
    "demo_model",
    "demo_model_path",
    "devices",
    "engines",
    "fit_gpu_layers",
    "flash_attn_type_name",
    "from_capsule",
    "ftype_name",
    "get_include",
    "json_schema_to_grammar",
    "live_objects",
    "load",
    "load_async",
    "load_mode_from_str",
    "load_mode_name",
    "log",
    "max_devices",
    "max_parallel_sequences",
    "max_tensor_buft_overrides",
    "measure_speed",
    "numa_init",
    "plan_memory",
    "quantize",
    "sample_rows",
    "sampling",
    "split_path",
    "split_prefix",
    "supports_gpu_offload",
    "supports_mlock",
    "supports_mmap",
    "supports_rpc",
    "to_capsule",
    "tune",
    "version",
    "write_lora",
]


class Version(NamedTuple):
    """What is running.

    Attributes
    ----------
    llama_cy : str
        Version of this package.
    llama_cpp : str
        Commit of llama.cpp that it was compiled from.
    build_options : str
        ggml's build options.
    system_info : str
        CPU and device features in use.
    llama_cpp_version : str
        The version that llama.cpp gives itself.
    """

    llama_cy: str
    llama_cpp: str
    build_options: str
    system_info: str
    llama_cpp_version: str


def version() -> Version:
    """Return the versions of this package and of llama.cpp. Wraps ``llama_print_system_info`` and ``llama_version``."""
    start_backends()
    return Version(
        __version__, _llama.llama_cpp_commit(), _llama.build_options(), _llama.system_info(), llama_cpp_version()
    )  # fmt: skip


def demo_model_path(draft: bool = False) -> Path:
    """Return the path of the built-in model, or of its draft model."""
    return Path(__file__).parent / "models" / ("demo-draft.gguf" if draft else "demo.gguf")


def demo_model(*, draft: bool = False, **params: Any) -> Model:
    """Load the built-in model: a few million parameters, trained on children's stories and small tasks.

    Parameters
    ----------
    draft : bool
        The smaller model with the same vocabulary.
    **params
        As in :class:`Model`.
    """
    return Model(demo_model_path(draft), **params)


def get_include() -> str:
    """Return the folder with ``llama_cy_api.h``, llama.cpp's own headers and the ``.pxd`` mirror."""
    return str(Path(__file__).parent / "include")
