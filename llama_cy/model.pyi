from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy.typing as npt
from typing_extensions import Buffer, Self, disjoint_base

from .adapter import LoraAdapter
from .context import Context
from .devices import Device
from .enums import (
    AttentionType,
    ContextType,
    FlashAttnType,
    GGMLType,
    LazyMode,
    LoadMode,
    PoolingType,
    RopeScalingType,
    SplitMode,
)
from .loading import _Path
from .model_facts import ModelFacts
from .placement import Placed
from .reranking import Ranking
from .tensor import Tensor
from .vocab import Vocab

_Device: TypeAlias = str | Device

@disjoint_base
class Model(ModelFacts):
    def __new__(
        cls,
        source: _Path | Sequence[_Path] | BinaryIO | int,
        *,
        n_gpu_layers: int | Literal["auto", "fit"] = "auto",
        progress: Callable[[float], object] | bool | None = None,
        trusted: bool = True,
        device: _Device | Iterable[_Device] = "auto",
        split_mode: SplitMode | str = ...,
        main_gpu: int = ...,
        tensor_split: Iterable[float] | None = None,
        tensor_buft_overrides: Mapping[str, str | Device] | None = None,
        load_mode: LoadMode | str = ...,
        lazy_mode: LazyMode | str = ...,
        kv_overrides: Mapping[str, bool | int | float | str] | None = None,
        vocab_only: bool = False,
        check_tensors: bool = False,
        use_extra_bufts: bool = ...,
        no_host: bool = False,
        load_mtp: bool = ...,
    ) -> Self: ...
    @classmethod
    def from_buffer(cls, data: Buffer, **params: Any) -> Self: ...
    @classmethod
    def init_from_user(
        cls,
        metadata: Mapping[str, Any],
        set_tensor_data: Callable[[str, tuple[int, ...], GGMLType], npt.ArrayLike | None],
        *,
        types: Mapping[str, GGMLType | str] | None = None,
        n_gpu_layers: int | Literal["auto"] = "auto",
        **params: Any,
    ) -> Self: ...
    @classmethod
    async def load_async(
        cls,
        source: _Path | Sequence[_Path] | BinaryIO | int,
        *,
        n_gpu_layers: int | Literal["auto", "fit"] = "auto",
        progress: Callable[[float], object] | bool | None = None,
        trusted: bool = True,
        device: _Device | Iterable[_Device] = "auto",
        split_mode: SplitMode | str = ...,
        main_gpu: int = ...,
        tensor_split: Iterable[float] | None = None,
        tensor_buft_overrides: Mapping[str, str | Device] | None = None,
        load_mode: LoadMode | str = ...,
        lazy_mode: LazyMode | str = ...,
        kv_overrides: Mapping[str, bool | int | float | str] | None = None,
        vocab_only: bool = False,
        check_tensors: bool = False,
        use_extra_bufts: bool = ...,
        no_host: bool = False,
        load_mtp: bool = ...,
    ) -> Self: ...
    @property
    def path(self) -> str: ...
    @property
    def vocab(self) -> Vocab: ...
    @property
    def placement(self) -> list[Placed]: ...
    @property
    def closed(self) -> bool: ...
    def _repr_html_(self) -> str: ...
    def context(
        self,
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
    ) -> Context: ...
    def load_adapter(self, source: _Path | BinaryIO | int) -> LoraAdapter: ...
    def embed(
        self,
        inputs: Any,
        *,
        pooling_type: PoolingType | str | None = None,
        normalize: bool | Literal["l2", "none"] | None = True,
        truncate: bool = False,
        **params: Any,
    ) -> Any: ...
    def rerank(
        self, query: str | bytes, documents: Iterable[str | bytes], *, truncate: bool = False, **params: Any
    ) -> Ranking: ...
    def save(self, path: _Path) -> None: ...
    def close(self) -> None: ...
    def __bool__(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
