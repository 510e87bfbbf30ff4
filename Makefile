# mlc_llm: `make` lists the targets.
#
# Everything is installed into .venv with pip, from PyPI's packages and this clone. An install
# runs again only when a pyproject.toml has changed. ARGS is handed on: make test ARGS="-k llama".

PYTHON ?= python3
VENV ?= .venv
# The build of torch that the tests compare with. For a CPU build where PyPI has only CUDA's:
#   make reference TORCH='torch --index-url https://download.pytorch.org/whl/cpu'
TORCH ?= torch==2.13.0
# The implementations that the benchmarks compare with, each in an environment of its own;
# llama-cpp-python is built from source.
LLAMA_CPP ?= llama-cpp-python==0.3.36 gguf==0.19.0
OPENVINO ?= openvino-genai==2026.4.1.0 optimum-intel[openvino]==2.2.0 transformers==4.57.6
BENCH ?= build/bench
SHAPE ?= tinyllama-1.1b
ARGS ?=
# Where make test-all keeps the tokenizers that it compares with, 264 MB from npm and PyPI.
TOKENIZERS ?= build/tokenizers
# What `make fuzz` feeds: another seed makes other inputs.
FUZZ_SEED ?= 0
FUZZ_INPUTS ?= 101000
FUZZ_SECONDS ?= 600
# The processes that run the tests: one more than there are cores, since tests wait, but no more
# than 4, since each may hold a compiler and torch. 0 is the one that was started, as a debugger
# wants it.
WORKERS ?= auto

BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
LLAMA_CPP_VENV := $(BENCH)/venv-llama-cpp
LLAMA_CPP_SOURCE := $(BENCH)/llama-cpp
BATCHED_BENCH := $(LLAMA_CPP_SOURCE)/build/bin/llama-batched-bench
OPENVINO_VENV := $(BENCH)/venv-openvino
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
CORE := -e plugins/templates -e .
PLUGINS := $(foreach name,templates cuda[test] metal,-e 'plugins/$(name)')
# This one has C++ in it, so it is built again when that changes.
VULKAN := $(wildcard $(addprefix plugins/vulkan/,pyproject.toml CMakeLists.txt *.py src/*))
# Tests start hundreds of processes, each of which would compile our source without bytecode.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest \
  --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)

export MODEL

ifneq ($(words $(VENV)),1)
  $(error VENV must be one name without blanks, and is "$(VENV)")
endif

.DELETE_ON_ERROR:
.PHONY: help install chat test test-all tokenizers cuda-matrix fuzz fuzz-short inject lint bench reference
.PHONY: bench-streams fuzz-part-1 fuzz-part-2 docs docs-serve clean

help:
	@echo "make chat                   chat with the small model that is part of the package"
	@echo "make chat MODEL=smollm2     chat with a real assistant, a small one (93 MB)"
	@echo "make chat MODEL=HF://O/N    chat with a model from the Hugging Face hub"
	@echo "make chat MODEL=PATH        chat with the model in a folder or a GGUF file"
	@echo "make install                only install, into $(VENV)"
	@echo "make test                   run the tests; WORKERS=0 in one process"
	@echo "make test-all               run the slow tests, which make test leaves out, and fuzz-short"
	@echo "make cuda-matrix            check every CUDA kernel in every shape, for every GPU"
	@echo "make tokenizers             fetch what make test-all compares tokenizers with (264 MB)"
	@echo "make fuzz                   feed 100,000 damaged inputs; fuzz-short: 90 seconds of 2 cores"
	@echo "make inject                 kill, fill disks and cut files while the program works"
	@echo "make reference              install torch and transformers, which more tests compare with"
	@echo "make lint                   check style, types and import order"
	@echo "make docs                   build the documentation into build/site"
	@echo "make docs-serve             show it at http://127.0.0.1:8000 while you write"
	@echo "make bench                  measure against llama.cpp and OpenVINO (installs them once)"
	@echo "make bench-streams          measure many answers at once against them"
	@echo "make clean                  remove what the targets above made"

install: $(STAMPS)/core

chat:
	@$(MAKE) --no-print-directory --silent $(STAMPS)/core
	@$(BIN)/mlc_llm chat $${MODEL:+"$$MODEL"} $(ARGS)

test: $(STAMPS)/test $(STAMPS)/vulkan
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(STAMPS)/test $(STAMPS)/vulkan tokenizers
	MLC_LLM_TEST_TOKENIZERS='$(TOKENIZERS)' $(PYTEST) -m "slow and not cuda_matrix" $(ARGS)
	$(MAKE) --no-print-directory fuzz-short ARGS=

# Tests of what could not be fetched are left out; it is tried again.
tokenizers: $(STAMPS)/test
	@echo "Fetching tokenizers from npm and PyPI into $(TOKENIZERS), once." >&2
	@$(BIN)/python tests/original_tokenizers.py '$(TOKENIZERS)' || \
	  echo "Some tokenizers could not be fetched, as said above: their tests are left out." >&2

cuda-matrix: $(STAMPS)/test
	$(PYTEST) -m cuda_matrix plugins/cuda/tests $(ARGS)

fuzz: $(STAMPS)/test
	$(BIN)/python -m fuzz --seed $(FUZZ_SEED) --inputs $(FUZZ_INPUTS) \
	  --seconds $(FUZZ_SECONDS) $(ARGS)

# What make test-all has of it: two processes, each with half of the subjects.
fuzz-short: $(STAMPS)/test
	@$(MAKE) --no-print-directory -j2 fuzz-part-1 fuzz-part-2

fuzz-part-1 fuzz-part-2: fuzz-part-%:
	$(BIN)/python -m fuzz --part $*/2 --seed $(FUZZ_SEED) --inputs $(FUZZ_INPUTS) \
	  --seconds 90 $(ARGS)

inject: $(STAMPS)/test
	$(BIN)/python -m fuzz.injection --seed $(FUZZ_SEED) $(ARGS)

lint: $(STAMPS)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks fuzz plugins/*/mlc_llm_*
	$(BIN)/mypy plugins/cuda/emulator
	$(BIN)/mypy examples/*.py
	$(BIN)/mypy -p examples.demo_model
	$(BIN)/mypy examples/plugins/*/*.py examples/plugins/*/mlc_llm_*/
	$(BIN)/lint-imports

bench: $(STAMPS)/core $(LLAMA_CPP_VENV)/.made $(OPENVINO_VENV)/.made
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.compile_time --shape $(SHAPE)
	$(BIN)/python -m benchmarks.limits --shape $(SHAPE) --work $(BENCH)
	$(BIN)/python -m benchmarks.compare --shape $(SHAPE) --work $(BENCH) \
	  --llama-cpp-python $(LLAMA_CPP_VENV)/bin/python \
	  --openvino-python $(OPENVINO_VENV)/bin/python $(ARGS)

bench-streams: $(STAMPS)/core $(BATCHED_BENCH) $(OPENVINO_VENV)/.made
	$(BIN)/python -m benchmarks.streams speed --shape $(SHAPE) --work $(BENCH) \
	  --batched-bench $(BATCHED_BENCH) --llama-cpp-python $(LLAMA_CPP_VENV)/bin/python \
	  --openvino-python $(OPENVINO_VENV)/bin/python $(ARGS)
	$(BIN)/python -m benchmarks.streams arrival --shape $(SHAPE) --work $(BENCH) --streams 8

reference: $(STAMPS)/reference

docs: $(STAMPS)/docs
	@$(MKDOCS) build
	@echo "The documentation is in build/site/index.html; make docs-serve has the search, too."

docs-serve: $(STAMPS)/docs
	@$(MKDOCS) serve --livereload $(ARGS)

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment of the project.

$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON). Install Python 3.11 or newer, or name it: PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "mlc_llm needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name a newer one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: its venv module is missing." >&2; \
	  echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/core: $(STAMPS)/venv pyproject.toml plugins/templates/pyproject.toml
	@echo "Installing mlc_llm into $(VENV); this takes a minute or two, once." >&2
	@$(PIP) $(CORE) >&2
	@touch $@

$(STAMPS)/test: $(STAMPS)/venv $(PROJECTS)
	@echo "Installing mlc_llm, its plugins and the test tools into $(VENV)." >&2
	@$(PIP) $(PLUGINS) -e '.[test,docs]' >&2
	@touch $@

# Where it cannot be built, everything else is there, and its tests are left out. It is tried again.
$(STAMPS)/vulkan: $(STAMPS)/core $(VULKAN)
	@echo "Building mlc-llm-vulkan into $(VENV); this takes a minute." >&2
	@if $(PIP) -e plugins/vulkan >&2; then touch $@; else \
	  echo "mlc-llm-vulkan could not be built, as said above; everything else is installed." >&2; \
	  echo "It needs a C++17 compiler; on Debian and Ubuntu: apt-get install g++" >&2; fi

$(STAMPS)/lint: $(STAMPS)/venv $(PROJECTS)
	@$(PIP) -e plugins/templates -e '.[lint]' >&2
	@$(PIP) --no-deps $(PLUGINS) >&2  # without NVIDIA's wheels, of 243 MB, which the tests need
	@touch $@

$(STAMPS)/docs: $(STAMPS)/venv $(PROJECTS)
	@echo "Installing mlc_llm and MkDocs into $(VENV)." >&2
	@$(PIP) -e plugins/templates -e '.[docs]' >&2
	@touch $@

$(STAMPS)/reference: $(STAMPS)/venv $(PROJECTS)
	@echo "Installing $(TORCH) and transformers into $(VENV)." >&2
	@$(PIP) $(TORCH) >&2
	@$(PIP) -e plugins/templates -e '.[reference]' >&2
	@touch $@

# The environments of the implementations that we compare with.

$(LLAMA_CPP_VENV)/.made: $(STAMPS)/venv
	@echo "Building $(LLAMA_CPP) in $(LLAMA_CPP_VENV); this takes some minutes, once." >&2
	$(PYTHON) -m venv $(LLAMA_CPP_VENV)
	@$(LLAMA_CPP_VENV)/bin/python -m pip install --disable-pip-version-check --quiet $(LLAMA_CPP) >&2
	@touch $@

# The exporter traces the model with torch.
# The program that measures many streams is in the sources that llama-cpp-python is built from.
$(BATCHED_BENCH): $(LLAMA_CPP_VENV)/.made
	@echo "Building llama-batched-bench in $(LLAMA_CPP_SOURCE); it needs cmake, and some minutes, once." >&2
	@rm -rf $(LLAMA_CPP_SOURCE) && mkdir -p $(LLAMA_CPP_SOURCE)
	@$(LLAMA_CPP_VENV)/bin/python -m pip download --disable-pip-version-check --quiet --no-deps \
	  --no-binary llama-cpp-python --dest $(LLAMA_CPP_SOURCE) $(firstword $(LLAMA_CPP)) >&2
	@cd $(LLAMA_CPP_SOURCE) && tar xzf llama_cpp_python-*.tar.gz --strip-components=1
	@cmake -S $(LLAMA_CPP_SOURCE)/vendor/llama.cpp -B $(LLAMA_CPP_SOURCE)/build \
	  -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF \
	  -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_OPENSSL=OFF >&2
	@cmake --build $(LLAMA_CPP_SOURCE)/build --target llama-batched-bench --parallel 2 >&2

$(OPENVINO_VENV)/.made: $(STAMPS)/venv
	@echo "Installing $(OPENVINO) into $(OPENVINO_VENV), once." >&2
	$(PYTHON) -m venv $(OPENVINO_VENV)
	@$(OPENVINO_VENV)/bin/python -m pip install --disable-pip-version-check --quiet $(TORCH) >&2
	@$(OPENVINO_VENV)/bin/python -m pip install --disable-pip-version-check --quiet $(OPENVINO) >&2
	@touch $@
