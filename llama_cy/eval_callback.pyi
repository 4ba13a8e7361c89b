from collections.abc import Callable, Iterable
from typing import final

from typing_extensions import disjoint_base

from .tensor import Tensor

_Filter = str | Iterable[str] | Callable[[Tensor], object]

@disjoint_base
class Watch: ...

@final
class EvalCallback(Watch):
    def __init__(self, function: Callable[[Tensor], object], chosen: _Filter | None) -> None: ...

def chooser(chosen: _Filter | None) -> Callable[[Tensor], object] | None: ...
