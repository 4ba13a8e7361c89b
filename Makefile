# `make demo` and `make test` are all a newcomer types; everything else builds on them.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
BUILD_STAMP := $(VENV)/.build-tools
TEST_STAMP := $(VENV)/.test-tools
PEERS := build/peers
NATIVE := setup.py pyproject.toml vendor/llama.cpp.txt vendor/amx.h $(wildcard vendor/*.py) llama_cy/variants.py \
          $(wildcard llama_cy/*.pyx llama_cy/*.pxd llama_cy/kernels/*.h include/*)
# Settings of the environment that change what is built: when they do, it is built again.
SETTINGS := build/settings-make
$(shell mkdir -p build; printenv CMAKE_ARGS LLAMA_CY_LINK LLAMA_CY_DEBUG LLAMA_CY_PORTABLE LLAMA_CPP_SOURCE MACOSX_DEPLOYMENT_TARGET \
    > $(SETTINGS).new; cmp -s $(SETTINGS).new $(SETTINGS) || cp $(SETTINGS).new $(SETTINGS))

.PHONY: demo test test-gpu test-vulkan test-darwin test-windows test-linux test-wheels test-peers build lint mirror reference gate bump demo-model clean coverage fuzz sanitize bench

demo: build ## print a story from the built-in model
	@$(VENV)/bin/llama-cy generate "Once upon a time" --echo --max-tokens 250

test: build $(TEST_STAMP) ## run the whole suite
	$(VENV)/bin/pytest -n auto --dist loadscope $(PYTEST_ARGS)

test-gpu: build $(TEST_STAMP) ## compare each GPU with the CPU, all and parts of models on it: after CMAKE_ARGS="-DGGML_CUDA=ON" make build
	$(VENV)/bin/pytest -m "gpu or metal" tests/devices $(PYTEST_ARGS)

test-vulkan: build $(TEST_STAMP) ## tests of devices with Vulkan on the CPU by Mesa's driver, in build/vulkan (docs/vulkan.md): VULKAN_ARGS=tests/devices/test_exit.py
	$(PY) -m tools.vulkan $(VULKAN_ARGS)

test-darwin: build $(TEST_STAMP) ## build for a Mac with zig and ld64.lld (`apt install lld`), and read what came out
	$(PY) -m pip install --quiet --group cross
	$(VENV)/bin/pytest -m darwin tests/darwin $(PYTEST_ARGS)

test-windows: build $(TEST_STAMP) ## build for Windows with zig, read what came out, and run it under wine (`apt install wine64`)
	$(PY) -m pip install --quiet --group cross
	$(VENV)/bin/pytest -m windows tests/windows $(PYTEST_ARGS)

test-linux: build $(TEST_STAMP) ## build for arm64 (`apt install g++-aarch64-linux-gnu qemu-user`), for musl and for CPython 3.14
	$(PY) -m pip install --quiet --group cross
	$(VENV)/bin/pytest -m linux tests/linux $(PYTEST_ARGS)

test-wheels: build $(TEST_STAMP) ## build what is published, check it, and install it where the source tree is not in sight
	$(PY) -m pip install --quiet --group wheels
	$(VENV)/bin/pytest -m wheels tests/build tests/embed $(PYTEST_ARGS)

test-peers: build $(TEST_STAMP) ## compute beside other bindings and libraries, in every order of imports
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --upgrade pip
	$(PEERS)/bin/python -m pip install --quiet --group neighbours
	rm -rf $(PEERS)/wheel
	$(PY) -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir $(PEERS)/wheel .
	$(PEERS)/bin/python -m pip install --quiet --no-deps --force-reinstall $(PEERS)/wheel/*.whl
	$(VENV)/bin/pytest -m peers tests/embed $(PYTEST_ARGS)

build: $(VENV)/.built

$(VENV)/.built: $(BUILD_STAMP) $(NATIVE) $(SETTINGS)
	$(PY) vendor/fetch.py
	$(PY) -m pip install --quiet --no-build-isolation --editable ".[cli]"
	@touch $@

$(BUILD_STAMP): pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip "setuptools>=77" "Cython>=3.1" "cmake>=3.20" ninja
	@touch $@

$(TEST_STAMP): $(BUILD_STAMP) pyproject.toml
	$(PY) -m pip install --quiet --group test --group lint
	@touch $@

lint: build $(TEST_STAMP) ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint llama_cy tests examples include
	$(VENV)/bin/mypy

fuzz: build $(TEST_STAMP) ## mutants of every file that is read, or random calls: FUZZ_ARGS="model --count 20000" or "stateful --examples 100000"
	cd tests && ../$(PY) -m fuzz $(FUZZ_ARGS)

sanitize: build $(TEST_STAMP) ## tests on builds of llama.cpp and ours with ASan and UBSan, and with TSan (Linux, GCC): SANITIZE=thread SANITIZE_ARGS=tests/unit/test_loop.py
	$(PY) -m tools.sanitize $(SANITIZE) $(SANITIZE_ARGS)

coverage: build $(TEST_STAMP) ## line coverage of the Cython and Python code
	$(PY) tools/coverage.py $(PYTEST_ARGS)

bench: build ## our loops against the same loops in C and other bindings: BENCH_ARGS=--quick
	@$(PY) -c "import gguf, typer, matplotlib" 2> /dev/null || $(PY) -m pip install --quiet --group bench || true
	@$(PY) -m benchmarks $(BENCH_ARGS)

mirror: $(TEST_STAMP) ## generate include/ and the enums from the pinned headers
	$(PY) vendor/fetch.py
	$(PY) -m tools.mirror

reference: build $(TEST_STAMP) ## generate docs/reference from the docstrings and the stubs
	$(PY) -m tools.reference

gate: build $(TEST_STAMP) ## run the suite, note which test calls which function of llama.h, print the table
	$(PY) -m tools.gate --record

bump: $(TEST_STAMP) ## make bump VERSION=x.y.z moves the pin
	$(PY) tools/bump.py $(VERSION)

demo-model: build ## train, export and evaluate the built-in model
	$(PY) -m pip install --quiet -r tools/demo_model/requirements.txt
	$(PY) -m tools.demo_model all

clean:
	rm -rf build dist llama_cy/*.so llama_cy/include *.egg-info $(VENV)/.built
