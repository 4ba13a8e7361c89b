from typing import NamedTuple

from .enums import DeviceType

class Device(NamedTuple):
    name: str
    description: str
    type: DeviceType
    memory_free: int
    memory_total: int
    backend: str = ...
    features: dict[str, str] = ...

def devices() -> list[Device]: ...
