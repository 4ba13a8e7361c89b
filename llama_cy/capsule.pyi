from typing import final

from .context import Context
from .model import Model
from .sampler import Sampler
from .vocab import Vocab

@final
class Lease: ...

def to_capsule(thing: Model | Vocab | Context | Sampler) -> object: ...
def from_capsule(capsule: object) -> Model | Sampler: ...
