# make demo    rendered faces -> trained network -> atlas -> runs/demo/report.html
# make test    everything that must hold: lint, types, import rules, tests
#
# Both make the environment first. Another Python: make PYTHON=python3.13. Another index for
# PyTorch's build without CUDA: make TORCH_INDEX=https://...; none at all: make TORCH_INDEX=

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
DEMO ?=
PYTEST ?=
WORKERS ?= 2

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
PREREQUISITES := pyproject.toml constraints.txt Makefile

.PHONY: demo test lint format types imports tests wheel clean help

demo: $(VENV)/installed
	$(BIN)/maskatlas demo $(DEMO)

test: lint types imports tests

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/installed-dev
	$(BIN)/mypy

imports: $(VENV)/installed-dev
	$(BIN)/lint-imports

tests: $(VENV)/installed-dev
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile \
	  --durations=10 $(PYTEST)

wheel: $(VENV)/installed-dev
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 5

# Without an NVIDIA GPU the build that carries gigabytes of CUDA is of no use. Elsewhere than on
# Linux the default index has the right build, and so it may behind a company's own settings of pip.
$(VENV)/torch: $(PREREQUISITES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "maskatlas needs Python 3.11 or newer, and this is " + sys.version.split()[0] + \
	  "; name another: make PYTHON=python3.13")'
	@echo "Environment in $(VENV)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@if test "$$(uname -s)" = Linux && test -n "$(TORCH_INDEX)" && ! command -v nvidia-smi >/dev/null; \
	then \
	  echo "No NVIDIA GPU here: looking for PyTorch's build without CUDA at $(TORCH_INDEX)"; \
	  $(INSTALL) --no-deps --index-url $(TORCH_INDEX) --retries 1 --timeout 15 torch==$(TORCH) || \
	  echo "Not to be had there: taking what pip finds by default, which may be a build with CUDA"; \
	fi
	@$(INSTALL) torch==$(TORCH)
	@touch $@

$(VENV)/installed: $(VENV)/torch
	@$(INSTALL) hatchling
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/torch
	@$(INSTALL) hatchling
	@$(INSTALL) --no-build-isolation --editable '.[dev]'
	@touch $@ $(VENV)/installed
