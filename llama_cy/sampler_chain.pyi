from collections.abc import Mapping
from typing import SupportsIndex

from typing_extensions import Self, disjoint_base

from .completion import SamplerPerf
from .sampler import Sampler

@disjoint_base
class SamplerChain(Sampler):
    def __init__(self, *samplers: Sampler, no_perf: bool | None = None) -> None: ...
    def add(self, sampler: Sampler) -> Self: ...
    def get(self, i: SupportsIndex) -> Sampler: ...
    def remove(self, i: SupportsIndex) -> Sampler: ...
    def perf(self) -> SamplerPerf: ...
    def perf_reset(self) -> None: ...
    def __len__(self) -> int: ...

def sampling(
    *,
    temperature: float = 0.8,
    top_k: int = 40,
    top_p: float = 0.95,
    min_p: float = 0.05,
    repeat_penalty: float = 1.0,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    penalty_last_n: int = 64,
    logit_bias: Mapping[int, float] | None = None,
    seed: int | None = None,
) -> SamplerChain: ...
