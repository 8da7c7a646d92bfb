# One command to run it, one to test it. Needs only Python 3.11 to 3.13 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VENV_TPU ?= .venv-tpu
VENV_READERS ?= .venv-readers
BIN_TPU := $(VENV_TPU)/bin
# Eight CPU devices stand in for the eight of a v5e-8; programs that were compiled once are found again.
TPU_ENVIRONMENT := JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8 \
	JAX_COMPILATION_CACHE_DIR=$(CURDIR)/$(VENV_TPU)/compiled JAX_PERSISTENT_COMPILATION_CACHE_MIN_COMPILE_TIME_SECS=0.3

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types unit unit-training unit-rooms notebooks on-kaggle install-tpu test-tpu install-readers test-readers test-faults clean

help:
	@echo "make demo    install into .venv and run the notebooks 01 to 04 on a CPU (recipe smoke)"
	@echo "make test    lint, types, unit tests, notebooks"
	@echo "make test-readers    open artifacts in transformers 4.57, an older peft and llama.cpp, in .venv-readers"
	@echo "make test-faults    kill, fill and damage real runs, and compare what they leave with an undisturbed one"
	@echo "make test-tpu    install JAX and Tunix into .venv-tpu, compare them with PyTorch on CPU devices"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/python notebooks/run_demo.py

# The last two run one after the other inside, on a thread each: side by side they take as long as the longer one.
test: lint types unit
	$(MAKE) -j2 notebooks on-kaggle

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/jupyter nbconvert --log-level ERROR --to python --output-dir build/notebooks notebooks/*.ipynb
	$(BIN)/vulture

types: install
	$(BIN)/mypy

# Two halves side by side, a thread each: they take as long as the longer one.
unit: install
	$(MAKE) -j2 unit-training unit-rooms

unit-training: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/train tests/tpu tests/kaggle $(wildcard tests/test_*.py) \
		--ignore tests/kaggle/test_on_kaggle.py

unit-rooms: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests --ignore tests/train --ignore tests/tpu --ignore tests/kaggle \
		--ignore tests/readers --ignore tests/faults --ignore-glob 'tests/test_*.py'

notebooks: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=900 --ignore=notebooks/03_train_tpu_v5e8.ipynb notebooks

on-kaggle: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/kaggle/test_on_kaggle.py

install-tpu: $(VENV_TPU)/.installed

# Without libtpu: it is for machines with a TPU, and takes 700 MB.
$(VENV_TPU)/.installed: pyproject.toml requirements.txt requirements-tpu.txt
	$(PYTHON) -m venv $(VENV_TPU)
	$(BIN_TPU)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e '.[dev]'
	grep -v '^libtpu' requirements-tpu.txt > $(VENV_TPU)/requirements.txt
	$(BIN_TPU)/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(VENV_TPU)/requirements.txt
	@touch $@

test-tpu: install-tpu
	$(TPU_ENVIRONMENT) $(BIN_TPU)/python -m pytest tests/tpu tests/kaggle/test_on_kaggle_tpu.py
	$(TPU_ENVIRONMENT) $(BIN_TPU)/python -m pytest --nbmake --nbmake-timeout=900 \
		notebooks/01_data.ipynb notebooks/02_pack.ipynb notebooks/03_train_tpu_v5e8.ipynb

install-readers: $(VENV_READERS)/.installed

$(VENV_READERS)/.installed: tests/readers/transformers-4.txt tests/readers/llama.txt
	$(PYTHON) -m venv $(VENV_READERS)/transformers-4
	$(VENV_READERS)/transformers-4/bin/python -m pip install --quiet --disable-pip-version-check -r tests/readers/transformers-4.txt
	$(PYTHON) -m venv $(VENV_READERS)/llama.cpp
	$(VENV_READERS)/llama.cpp/bin/python -m pip install --quiet --disable-pip-version-check -r tests/readers/llama.txt
	@touch $@

# Artifacts made here, opened in the oldest readers that people use: the same tokens, losses and greedy answers.
test-readers: install install-readers
	$(BIN)/python -m pytest tests/readers

# Kills at moments that a seed chooses, full and read-only disks, damage between two sessions: on real runs.
test-faults: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults

clean:
	rm -rf $(VENV) $(VENV_TPU) $(VENV_READERS) runs dist build
