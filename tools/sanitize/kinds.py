"""The builds: their flags, what their runtime is told, and the tests that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """One build.

    Attributes
    ----------
    flags : str
        For the compiler and the linker.
    libraries : tuple of str
        Loaded before all others.
    variable : str
        The one of the environment that its runtime reads.
    options : Mapping of str to str
        What else is set.
    tests : tuple of str
        What runs where nothing is named.
    left_out : Mapping of str to str
        Tests that can't run on it, whoever names their folder, each with its reason.
    suppressions : str
        A file beside this one.
    """

    flags: str
    libraries: tuple[str, ...]
    variable: str
    options: Mapping[str, str]
    tests: tuple[str, ...]
    left_out: Mapping[str, str]
    suppressions: str = ""


# Such as that of a child that tries a file nobody trusts.
LIMIT = "a limit of addresses leaves fewer than the sanitizer takes"
LOCKED = "the lock of the sanitizer's own allocator may be held by a thread that the child does not have"


def unit(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/unit/test_{name}.py" for name in names)


KINDS = {
    "address": Kind(
        flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined",
        # With the C++ library in the process from the start, its throw can be watched.
        libraries=("libasan.so", "libubsan.so", "libstdc++.so"),
        variable="ASAN_OPTIONS",
        options={
            # CPython keeps objects until the end by design; our own are counted by the tests.
            # A test waits for the signal of a file that was cut.
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:allocator_may_return_null=1:handle_sigbus=0",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        },
        tests=tuple(f"tests/{name}" for name in ("unit", "properties", "conformance", "lifecycle", "stateful")),
        left_out={
            "tests/lifecycle/test_allocation_failures.py": "another malloc stands in the place of the sanitizer's",
            "tests/lifecycle/test_fork.py::test_a_child_waits_for_no_thread_of_its_parent": LOCKED,
            "tests/lifecycle/test_many_rounds.py": "freed memory is kept back to notice its use",
            "tests/lifecycle/test_memory_returns.py": "freed memory is kept back to notice its use",
            "tests/lifecycle/test_stacks.py": "frames are several times as large",
            "tests/lifecycle/test_untrusted.py": LIMIT,
            "tests/unit/test_loading.py::TestSplits::test_not_trusted": LIMIT,
            "tests/unit/test_loading.py::TestOpenFiles::test_packed_or_in_memory": LIMIT,
            "tests/unit/test_threadpool.py::test_refused": LIMIT,
            "tests/unit/test_stubs.py": "says nothing of what was built",
            "tests/unit/test_examples.py": "mypy and time limits; what they call is called by other tests",
        },
    ),
    "thread": Kind(
        flags="-fsanitize=thread",
        libraries=("libtsan.so", "libstdc++.so"),
        variable="TSAN_OPTIONS",
        options={"TSAN_OPTIONS": "halt_on_error=0:history_size=4:second_deadlock_stack=1:die_after_fork=0"},
        tests=(
            *(
                f"tests/lifecycle/test_{name}.py"
                for name in ("adapters_in_threads", "interrupt", "moments", "threads", "threads_random")
            ),
            *unit("abort_callback", "async", "context_pool", "log", "loop", "loop_misuse", "progress", "run_ahead"),
            *unit("sample_rows", "sampler_custom", "threadpool", "eval_callback", "stream", "training"),
            "tests/properties/test_run_ahead.py",
        ),
        left_out={
            "tests/unit/test_threadpool.py::test_refused": LIMIT,
            "tests/unit/test_run_ahead.py::test_a_fork_in_mid_loop": "the sanitizer ends a child that starts threads",
        },
    ),
}
