from typing import SupportsIndex, final

from .context import Context
from .context_handle import Attachment
from .sampler_chain import SamplerChain

@final
class ChainAttachment(Attachment): ...

def set_sampler(context: Context, seq_id: SupportsIndex, chain: SamplerChain | None) -> None: ...
def samplers_of(context: Context) -> dict[int, SamplerChain]: ...
