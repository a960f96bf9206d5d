# `make help` lists what there is. Needs Python >= 3.11 and Java 17 or 21; all else goes into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
DEMO ?= .demo
READY := .venv/.ready

.PHONY: help setup demo test check zip bench clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## Make .venv with everything

$(READY): pyproject.toml constraints.txt scripts/preflight.py
	@$(PYTHON) scripts/preflight.py
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet uv==0.13.9
	VIRTUAL_ENV=.venv UV_SYSTEM_CERTS=1 .venv/bin/uv pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	@touch $@

demo: $(READY)  ## Run all of Winnow on 5,000 generated pictures; ends with the report's path
	@$(PYTHON) scripts/preflight.py
	$(PY) -m jobs demo $(DEMO)

test: $(READY)  ## Run the tests
	@$(PYTHON) scripts/preflight.py
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

check: $(READY)  ## Check format, lint and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

zip: dist/winnow.zip  ## Make dist/winnow.zip for spark-submit --py-files

dist/winnow.zip: $(shell find conf jobs models udfs winnow -type f -not -path '*/__pycache__/*' 2>/dev/null)
	@mkdir -p dist && rm -f $@
	$(PYTHON) scripts/make_zip.py $@

bench: $(READY)  ## Run the benchmarks; they print the tables of docs/benchmarks.md
	$(PY) -m tests.bench

clean:  ## Remove what was made, .venv too
	rm -rf .venv .demo dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache spark-warehouse
