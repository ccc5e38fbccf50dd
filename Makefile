# Every target does all of its own set-up in .venv; python3 may be any of 3.10 to 3.13.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint peers bench clean

help:  ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/clearhead: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/test: $(BIN)/clearhead
	$(BIN)/pip install --quiet --editable ".[test]"
	@touch $@

$(VENV)/lint: $(VENV)/test
	$(BIN)/pip install --quiet --editable ".[test,lint]"
	@touch $@

$(VENV)/peers: $(VENV)/test
	$(BIN)/pip install --quiet --editable ".[test,peers]"
	@touch $@

$(VENV)/bench: $(VENV)/peers
	$(BIN)/pip install --quiet --editable ".[test,bench]"
	@touch $@

demo: $(BIN)/clearhead  ## train a Chinese-English Transformer and translate with it (minutes)
	$(BIN)/clearhead demo

test: $(VENV)/test  ## run every test that needs no other library
	$(BIN)/pytest -n 2 --ignore tests/peers

lint: $(VENV)/lint  ## style, types and the import law
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

peers: $(VENV)/peers  ## compare with other libraries (transformers, sentencepiece)
	$(BIN)/pytest -n 2 tests/peers

bench: $(VENV)/bench  ## run every benchmark and write benchmarks/RESULTS.md (hours)
	$(BIN)/python -m benchmarks

clean:  ## remove the environment and every cache
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
