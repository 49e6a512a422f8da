# Everything a developer or a curious user runs. Each target makes the virtual environment first if it is missing or old.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: demo test check check-lowest check-release docs bench format help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# torch first and from its pin, so that no other package pulls in another build of it
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY) ## train on real handwritten digits; leaves demo/report.html, pictures and a model file
	$(BIN)/isthmus demo --out demo

test: $(READY) ## every test
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2

check: $(READY) ## format, lint, types, import contract, style figures
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/style.py

LOWEST := .venv-lowest
LOWEST_TESTS := tests/estimators/test_contract.py tests/tasks/test_contract.py tests/training/test_compiled.py \
	tests/files/test_files.py tests/files/test_golden.py tests/data/test_table_files.py tests/data/test_images.py \
	tests/cli/test_cli.py tests/plots tests/report

check-lowest: ## part of the tests with the lowest versions that pyproject.toml allows, in an environment of their own
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt torch
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt -e '.[compress]' pytest hypothesis polars
	$(ONE_THREAD) $(LOWEST)/bin/python -m pytest -q $(LOWEST_TESTS)

check-release: $(READY) ## wheel and source distribution, built and tried in an environment of their own
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build
	$(BIN)/python tools/check_release.py

format: $(READY) ## put the code in the common format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## the documentation site, in site/; opens from disk
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python tools/docs_site.py

bench: $(READY) ## the tables of benchmarks/
	$(BIN)/python -m benchmarks.systems; missed=$$?; $(BIN)/python -m benchmarks.speed && exit $$missed
