# `make help` lists the targets. Every one of them works in a fresh clone: they run `make setup` first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
CODE := hil blocks drivers sim_device flowgraphs benchmarks tests

# One BLAS thread a process: the blocks of a graph are the parallelism.
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: help setup devices demo test test-all format lint types contract check bench clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the tested set of packages, install what devices need from Debian; does nothing when nothing changed

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh scripts/device_packages.sh scripts/debian_packages.sh
	@VENV=$(VENV) bash scripts/setup.sh
	@touch $@

devices: ## the Debian packages of real devices alone: libiio, UHD, GNU Radio (1.7 GB; `make setup DEBIAN_PACKAGES=no` goes without)
	@bash scripts/device_packages.sh

demo: setup ## simulated array to positions for 10 s; leaves the picture out/demo.png
	@mkdir -p out
	$(BIN)/hil run flowgraphs.near_field_music --for 10 --set device.motion=crossing --picture out/demo.png

test: setup ## the tests, without the slow ones
	$(BIN)/python -m pytest

test-all: setup ## the tests, with the slow ones
	$(BIN)/python -m pytest -m "not gpu and not hardware"

format: setup ## rewrite the code in the house format
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

lint: setup ## format and lint, changing nothing
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

types: setup ## mypy, strict
	$(BIN)/mypy

contract: setup ## the import contract
	$(BIN)/lint-imports

check: lint types contract test ## all of the above, then the tests

bench: setup ## the benchmarks, one JSON row each
	@for question in transport overhead end_to_end losses recording sim_device drivers faults estimators near_field_music hi_aware nf_subspace nf_speed nf_layers nf_planar; do $(BIN)/python -m benchmarks.$$question --json; done

clean: ## remove what the targets made, the environment included
	rm -rf $(VENV) out build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
