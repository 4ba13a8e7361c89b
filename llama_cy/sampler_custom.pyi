from typing_extensions import disjoint_base

from .candidates import Candidates
from .sampler import Sampler
from .sampler_handle import SamplerHandle

@disjoint_base
class Hook:
    def __init__(self, target: object) -> None: ...

def init(sampler: object, context: object) -> Sampler: ...
def apply(sampler: SamplerHandle, candidates: Candidates) -> None: ...
