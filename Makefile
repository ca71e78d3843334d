# Every target sets up what it needs, in .venv, and does so once: .venv/.installed is newer than pyproject.toml.

PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
BENCHMARKS := $(shell grep -l '^def main' benchmarks/*.py)

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz kills bench real gpu gpu-rehearsal lint clean

help:
	@echo "make demo          train and evaluate the small Perceptio beside its controls (FRESH=1 starts over, STREAMS=1 adds an arm)"
	@echo "make test          the whole test suite"
	@echo "make fuzz          more than a thousand mutants of every file format that is read"
	@echo "make kills         twenty trainings killed at every kind of moment, which go on to the bit"
	@echo "make lint          ruff and mypy"
	@echo "make bench         every benchmark, into benchmarks/results/ (QUICK=1: does each run?)"
	@echo "make real          parity on real weights; with PICTURES=DIR TEACHER=FILE the whole way on real pictures, and the 1B"
	@echo "make gpu           everything that only a GPU can show, in eight minutes, into benchmarks/results/"
	@echo "make gpu-rehearsal the same at tiny sizes on a CPU"

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "Python 3.11 or 3.12 is needed; choose one with: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing perceptio and what it needs into $(VENV) (a few minutes, once) ..."
	@SAM2_BUILD_CUDA=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/perceptio demo $(if $(FRESH),--fresh) $(if $(STREAMS),--streams)

# Files side by side, each on one core.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

fuzz: $(VENV)/.installed
	PERCEPTIO_FUZZ=1200 $(BIN)/python -m pytest tests/fuzz -q

kills: $(VENV)/.installed
	$(BIN)/python -m pytest tests/unit/training/test_kills.py --kills 20

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	for script in $(BENCHMARKS); do $(BIN)/python $$script $(if $(QUICK),--quick) || exit 1; done

real: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[real]"
	$(BIN)/python benchmarks/real/weights.py build/real/weights
	$(BIN)/python -m pytest tests/real
	$(BIN)/python benchmarks/real/whole_way.py --weights build/real/weights --pictures "$(PICTURES)" --teacher "$(TEACHER)" --out build/real/way
	$(BIN)/python benchmarks/real/large_model.py --data build/real/way/objects/train --out build/real/1b.json

# Not after .venv: a machine with a GPU may have a torch of its own, which is found and used.
gpu:
	$(PYTHON) benchmarks/gpu/run.py

gpu-rehearsal: $(VENV)/.installed
	$(BIN)/python benchmarks/gpu/run.py --rehearse

clean:
	rm -rf $(VENV) build *.egg-info
