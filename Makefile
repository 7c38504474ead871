# Everything starts from a Python 3.11 (or newer): `make demo` and `make test` create their own environment.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO ?= demo

.PHONY: help demo test test-slow lint format bench gpu docs clean

help:
	@echo "make demo       set up, then the main job on phantom hearts: cohort, pretraining, pictures, features"
	@echo "make test       set up, then the tests (under 10 minutes on 2 cores)"
	@echo "make test-slow  what takes longer: kills, several processes, command lines end to end"
	@echo "make lint       ruff and mypy"
	@echo "make bench      the speed benchmarks of benchmarks/README.md"
	@echo "make docs       the documentation as a site, into site/; a dead link fails"
	@echo "make gpu        tests and benchmarks that need a CUDA device, one JSON, under 10 minutes"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say where with PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" bash docs/demo.sh $(DEMO)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --durations=8

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow --durations=8

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

bench: $(READY)
	mkdir -p benchmarks/results; for script in benchmarks/[a-z]*.py; do case $$script in */reference_*|*/common.py|*/simulation.py|*/gpu.py|*/learning.py|*/own_depth.py|*/analyse*.py|*/slurm_*) ;; *) $(BIN)/python $$script --json benchmarks/results/$$(basename $$script .py).json ;; esac || exit 1; done

gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py --json benchmarks/results/gpu.json

docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The site is in site/; open site/index.html, or serve it with $(BIN)/python -m mkdocs serve"

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
