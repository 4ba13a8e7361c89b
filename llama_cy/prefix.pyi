from typing_extensions import disjoint_base

from .decoder import Decoder

@disjoint_base
class PrefixKeeper(Decoder): ...
