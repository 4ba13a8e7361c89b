from collections.abc import Callable, Iterable
from typing import Literal, SupportsIndex

from typing_extensions import Self, disjoint_base

from .async_stream import AsyncTextStream, AsyncTokenLoop
from .attachments import Attachments
from .completion import Completion, ContextPerf, TokenLogprob
from .enums import AttentionType, ContextType, FlashAttnType, GGMLType, PoolingType, RopeScalingType
from .loop import TokenLoop
from .memory import Memory
from .model import Model
from .placement import MemoryUse
from .sampler import Sampler
from .snapshot import Snapshot
from .state import State
from .stream import TextStream
from .tensor import Tensor

@disjoint_base
class Context(Attachments):
    def __new__(
        cls,
        model: Model,
        *,
        n_ctx: int | None = None,
        n_batch: int = ...,
        n_ubatch: int | None = None,
        n_seq_max: int = 1,
        n_rs_seq: int = 0,
        n_outputs_max: int = 0,
        n_outputs_max_per_seq: int = 0,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        poll: int = 50,
        ctx_type: ContextType | str = ...,
        rope_scaling_type: RopeScalingType | str = ...,
        pooling_type: PoolingType | str = ...,
        attention_type: AttentionType | str = ...,
        flash_attn_type: FlashAttnType | str | None = None,
        rope_freq_base: float = 0.0,
        rope_freq_scale: float = 0.0,
        yarn_ext_factor: float = ...,
        yarn_attn_factor: float = ...,
        yarn_beta_fast: float = ...,
        yarn_beta_slow: float = ...,
        yarn_orig_ctx: int = 0,
        type_k: GGMLType | str = ...,
        type_v: GGMLType | str = ...,
        embeddings: bool = False,
        offload_kqv: bool = ...,
        no_perf: bool = ...,
        op_offload: bool = ...,
        swa_full: bool = ...,
        kv_unified: bool = ...,
        eval_callback: Callable[[Tensor], object] | None = None,
        eval_filter: str | Iterable[str] | Callable[[Tensor], object] | None = None,
        ctx_other: Context | None = None,
    ) -> Self: ...
    def logprobs(self, text: str | bytes | Iterable[SupportsIndex], top: SupportsIndex = 0) -> list[TokenLogprob]: ...
    @property
    def pooling_type(self) -> PoolingType: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def state(self) -> State: ...
    def snapshot(
        self, seq_id: SupportsIndex | None = None, *, partial: bool = False, on_device: bool = False
    ) -> Snapshot: ...
    def restore(self, snapshot: Snapshot, seq_id: SupportsIndex | None = None) -> None: ...
    def perf(self) -> ContextPerf: ...
    def memory_breakdown(self) -> list[MemoryUse]: ...
    def perf_reset(self) -> None: ...
    def generate(
        self,
        prompt: str | bytes | Iterable[SupportsIndex] | None,
        sampler: Sampler | None = None,
        *,
        max_tokens: int | None = None,
        stop_tokens: Iterable[SupportsIndex] = (),
        ignore_eog: bool = False,
        reuse: bool | Literal["exact"] = True,
        logprobs: SupportsIndex | None = None,
        run_ahead: SupportsIndex = 0,
    ) -> TokenLoop: ...
    def stream(
        self,
        prompt: str | bytes | Iterable[SupportsIndex] | None,
        sampler: Sampler | None = None,
        *,
        stop: str | Iterable[str] = (),
        max_tokens: int | None = None,
        stop_tokens: Iterable[SupportsIndex] = (),
        ignore_eog: bool = False,
        reuse: bool | Literal["exact"] = True,
        logprobs: SupportsIndex | None = None,
        run_ahead: SupportsIndex = 0,
    ) -> TextStream: ...
    def complete(
        self,
        prompt: str | bytes | Iterable[SupportsIndex] | None,
        sampler: Sampler | None = None,
        *,
        stop: str | Iterable[str] = (),
        max_tokens: int | None = None,
        stop_tokens: Iterable[SupportsIndex] = (),
        ignore_eog: bool = False,
        reuse: bool | Literal["exact"] = True,
        logprobs: SupportsIndex | None = None,
        run_ahead: SupportsIndex = 0,
    ) -> Completion: ...
    def agenerate(
        self,
        prompt: str | bytes | Iterable[SupportsIndex] | None,
        sampler: Sampler | None = None,
        *,
        max_tokens: int | None = None,
        stop_tokens: Iterable[SupportsIndex] = (),
        ignore_eog: bool = False,
        reuse: bool | Literal["exact"] = True,
        logprobs: SupportsIndex | None = None,
        run_ahead: SupportsIndex = 0,
    ) -> AsyncTokenLoop: ...
    def astream(
        self,
        prompt: str | bytes | Iterable[SupportsIndex] | None,
        sampler: Sampler | None = None,
        *,
        stop: str | Iterable[str] = (),
        max_tokens: int | None = None,
        stop_tokens: Iterable[SupportsIndex] = (),
        ignore_eog: bool = False,
        reuse: bool | Literal["exact"] = True,
        logprobs: SupportsIndex | None = None,
        run_ahead: SupportsIndex = 0,
    ) -> AsyncTextStream: ...
    async def acomplete(
        self,
        prompt: str | bytes | Iterable[SupportsIndex] | None,
        sampler: Sampler | None = None,
        *,
        stop: str | Iterable[str] = (),
        max_tokens: int | None = None,
        stop_tokens: Iterable[SupportsIndex] = (),
        ignore_eog: bool = False,
        reuse: bool | Literal["exact"] = True,
        logprobs: SupportsIndex | None = None,
        run_ahead: SupportsIndex = 0,
    ) -> Completion: ...
