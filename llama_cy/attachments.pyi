from typing import SupportsIndex

from .adapter import LoraAdapter, _Adapters
from .control_vector import ControlVector
from .cvec import _Vectors
from .outputs import Outputs
from .sampler_chain import SamplerChain

class Attachments(Outputs):
    @property
    def adapters(self) -> dict[LoraAdapter, float]: ...
    def set_adapters(self, adapters: _Adapters) -> None: ...
    @property
    def control_vectors(self) -> list[tuple[ControlVector, float]]: ...
    def set_control_vectors(
        self, vectors: _Vectors, *, il_start: SupportsIndex = 1, il_end: SupportsIndex | None = None
    ) -> None: ...
    def set_sampler(self, seq_id: SupportsIndex, chain: SamplerChain | None) -> None: ...
    @property
    def samplers(self) -> dict[int, SamplerChain]: ...
