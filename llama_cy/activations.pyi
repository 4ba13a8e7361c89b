from typing import final

import numpy as np
import numpy.typing as npt

@final
class Activations:
    @property
    def sums(self) -> dict[str, npt.NDArray[np.float64]]: ...
    @property
    def counts(self) -> dict[str, npt.NDArray[np.int64]]: ...
