"""A GPU that fails in mid-decode takes its contexts along, and not the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.child import check_output
from support.llama_models import write_llama
from support.offload import GPUS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not any(name.startswith("CUDA") for name in GPUS), reason="needs CUDA, which a kernel can make fail"
    ),
]

# A kernel that traps: every later call of the process to this GPU fails.
LOSING = """
import ctypes, sys
import llama_cy

def lose_the_gpu():
    cuda = ctypes.CDLL("libcuda.so.1")
    context, module, kernel = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    source = b".version 7.0\\n.target sm_50\\n.address_size 64\\n.visible .entry fail() { trap; }\\n"
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert cuda.cuCtxSetCurrent(context) == 0
    assert cuda.cuModuleLoadData(ctypes.byref(module), source) == 0
    assert cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"fail") == 0
    cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None)
    assert cuda.cuCtxSynchronize() != 0

def refused(call, kind=llama_cy.LlamaError):
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError("nothing was raised")

model = llama_cy.Model(sys.argv[1], device="cuda:0", n_gpu_layers=int(sys.argv[2]))
first, second, third = (model.context(n_ctx=128) for _ in range(3))
loop = second.generate([1, 2, 3], max_tokens=50, ignore_eog=True)
next(loop)
first.decode([1, 2, 3])
ahead = third.generate([1, 2], max_tokens=50, ignore_eog=True, run_ahead=3)
next(ahead)
lose_the_gpu()
"""

CASES = {
    "decode": """
assert "CUDA error" in refused(lambda: first.decode([4]), llama_cy.DecodeError)
assert "can only be closed" in refused(lambda: first.decode([4]), llama_cy.ContextError)
""",
    "loop": "refused(lambda: list(loop))",
    "run ahead": "refused(lambda: list(ahead))",
    "logits and states": """
refused(first.state.get)
refused(first.synchronize)
""",
    "new objects": """
refused(lambda: model.context(n_ctx=64))
refused(lambda: llama_cy.Model(sys.argv[1], device="cuda:0"))
# Its weights are elsewhere, and the GPU is to compute.
with llama_cy.Model(sys.argv[1], n_gpu_layers=0) as other:
    refused(lambda: other.context(n_ctx=64), llama_cy.BackendError)
""",
    "the processor goes on": """
with llama_cy.Model(sys.argv[1], device="cpu") as other, other.context(n_ctx=64) as context:
    assert len(context.complete([1, 2], max_tokens=5, ignore_eog=True).tokens) == 5
""",
    "closed by hand": """
refused(lambda: first.decode([4]))
for one in (ahead, loop, first, second, third, model):
    one.close()
living = llama_cy.live_objects()
assert not any(living[kind] for kind in ("model", "context", "threadpool")), living
""",
    "nothing": "",
}


@pytest.mark.parametrize("n_gpu_layers", ["2", "-1"])
@pytest.mark.parametrize("case", CASES)
def test_the_process_lives(tmp_path: Path, case: str, n_gpu_layers: str) -> None:
    path = write_llama(tmp_path / "model.gguf")
    assert check_output(LOSING + CASES[case] + "\nprint('alive')", path, n_gpu_layers) == "alive\n"
