# One command to run it, one to test it. Needs only Python 3.11 to 3.13 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types unit notebooks clean

help:
	@echo "make demo    install into .venv and run the four notebooks on a CPU (recipe smoke)"
	@echo "make test    lint, types, unit tests, notebooks"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[notebooks,dev]'
	@touch $@

demo: install
	$(BIN)/python notebooks/run_demo.py

test: lint types unit notebooks

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

unit: install
	$(BIN)/python -m pytest tests

notebooks: install
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=900 notebooks

clean:
	rm -rf $(VENV) runs dist build
