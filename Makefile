# make up       MLflow, service and scheduler for a real bot, kept running (FOREGROUND=1: stays);  make down  ends them
# make doctor   what is wrong with the set-up;  make backup TO=copy.tar.zst;  make restore FROM=copy.tar.zst [FORCE=1]
#               The set-up is in .state/live, or in the folder STATE=...
# make faults   kill -9 and bit flips, the long form
# make demo     the whole loop on real data; stays up for browsing (EXIT=1: ends by itself)
# make long     every test in full, also what `make test` leaves out or repeats less often, and the mutants
# make mutants  do tests fail where an operator of a deciding module is changed? (ONLY='mlops.policy*': of that one)
# make test     the tests and their coverage;  make check  lint, types, tests
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
# One thread in BLAS and OpenMP: two on a busy two-core machine made the 95th percentile 150 times worse.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= true
ifdef STATE
export MLOPS_STATE := $(abspath $(STATE))
endif
# `mlflow run --env-manager local` takes the python that is first on PATH.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: install up down doctor backup restore faults demo test long mutants quick check lint types format clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11), f"Python must be 3.11, got {sys.version.split()[0]}. Pass PYTHON=/path/to/python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

up: install
	@$(BIN)/python -m jobs.stack.up $(if $(FOREGROUND),--foreground)

down: install
	@$(BIN)/trader-mlops down

doctor: install
	@$(BIN)/trader-mlops doctor

backup: install
	@$(BIN)/trader-mlops backup "$(or $(TO),$(error Say where to: make backup TO=copy.tar.zst))"

restore: install
	@$(BIN)/trader-mlops restore "$(or $(FROM),$(error Say from what: make restore FROM=copy.tar.zst))" $(if $(FORCE),--force)

faults: install
	$(BIN)/python -m benchmarks.faults

demo: install
	$(BIN)/python -m jobs.demo --state $(or $(STATE),.state/demo) $(if $(EXIT),--exit)

test: install
	$(BIN)/python -m slipcover --json --out .coverage.json -m pytest --durations=10 -n 2 --dist worksteal
	$(BIN)/python -m slipcover --fail-under 90 --skip-covered --out .coverage.json --merge .coverage.json

long: install mutants
	LONG=1 $(BIN)/python -m pytest --durations=25 -n 2 --dist worksteal

mutants: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt mutmut
	$(BIN)/mutmut run $(ONLY)
	$(BIN)/mutmut export-cicd-stats
	@cat mutants/mutmut-cicd-stats.json

quick: install
	$(BIN)/python -m pytest -m 'not e2e and not calibration and not slow' -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types test

clean:
	rm -rf .state/demo .coverage* .pytest_cache .mypy_cache .ruff_cache
