from collections.abc import Callable
from typing import final

@final
class AbortCallback:
    def __init__(self, function: Callable[[], object], interval: float) -> None: ...
