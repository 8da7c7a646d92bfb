# One command to run it, one to test it. Needs only Python 3.11 to 3.13 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types unit notebooks on-kaggle clean

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

# The last two run one after the other inside, on a thread each: side by side they take as long as the longer one.
test: lint types unit
	$(MAKE) -j2 notebooks on-kaggle

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

unit: install
	$(BIN)/python -m pytest tests --ignore tests/kaggle/test_on_kaggle.py

notebooks: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=900 notebooks

on-kaggle: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/kaggle/test_on_kaggle.py

clean:
	rm -rf $(VENV) runs dist build
