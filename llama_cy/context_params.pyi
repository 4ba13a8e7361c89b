from typing import Any, final

@final
class ContextParams:
    def __init__(self, params: dict[str, Any]) -> None: ...
