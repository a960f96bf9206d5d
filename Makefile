# `make help` lists the targets. Needs Python >= 3.11 and Java 17 or 21; everything else is installed into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
DEMO ?= .demo
READY := .venv/.ready

LOWEST := .venv-lowest
RUN_TESTS = -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup hooks demo test test-all test-lowest check docs zip bench clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

setup: $(READY)  ## Create .venv with all dependencies

$(READY): pyproject.toml constraints.txt scripts/preflight.py
	@$(PYTHON) scripts/preflight.py
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet uv==0.13.9
	VIRTUAL_ENV=.venv UV_SYSTEM_CERTS=1 .venv/bin/uv pip install --quiet --constraint constraints.txt --editable '.[train,dev,nsfw]'
	@VIRTUAL_ENV=.venv UV_SYSTEM_CERTS=1 .venv/bin/uv pip install --quiet --constraint constraints.txt pdqhash 2>/dev/null || echo \
	    'pdqhash was not built: it needs a C++ compiler and the headers of Python. Only the tests that compare PDQ with it are skipped.'
	@touch $@

demo: $(READY)  ## Run all of Winnow on 5,000 synthetic images; prints the path of the report
	@$(PYTHON) scripts/preflight.py
	$(PY) -m jobs demo $(DEMO)

hooks: $(READY)  ## Check format, lint and types before each git commit
	.venv/bin/pre-commit install

test: $(READY)  ## Run the tests but for the slow ones
	@$(PYTHON) scripts/preflight.py
	$(PY) $(RUN_TESTS) -m 'not slow' $(PYTEST)

test-all: $(READY)  ## Run all tests: also clusters, browsers, whole runs and runs that are killed
	@$(PYTHON) scripts/preflight.py
	$(PY) $(RUN_TESTS) --durations=30 $(PYTEST)

test-lowest:  ## Run the tests of `make test` with the oldest dependencies that pyproject.toml allows
	@$(PYTHON) scripts/preflight.py
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv==0.13.9
	VIRTUAL_ENV=$(LOWEST) UV_SYSTEM_CERTS=1 $(LOWEST)/bin/uv pip install --quiet --resolution lowest-direct --editable '.[train,dev,nsfw]'
	$(LOWEST)/bin/python $(RUN_TESTS) -m 'not slow' $(PYTEST)

check: $(READY)  ## Check format, lint, types and the generated pages
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) scripts/make_reference.py --check

docs: $(READY)  ## Write docs/tables.md and docs/settings.md from the code
	$(PY) scripts/make_reference.py

zip: dist/winnow.zip  ## Write dist/winnow.zip for spark-submit --py-files

dist/winnow.zip: $(shell find conf jobs models udfs winnow -type f -not -path '*/__pycache__/*' 2>/dev/null)
	@mkdir -p dist && rm -f $@
	$(PYTHON) scripts/make_zip.py $@

bench: $(READY)  ## Run the benchmarks that need no images of yours; prints tables of docs/benchmarks.md
	$(PY) -m tests.bench

clean:  ## Delete everything that was built, including .venv
	rm -rf .venv $(LOWEST) .demo dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache spark-warehouse
