from typing import final

@final
class ModelHandle: ...
