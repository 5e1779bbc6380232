# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint typecheck bench clean

# Users get what the demo needs; developers get everything.
.venv/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

.venv/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@ .venv/.core

demo: .venv/.core
	$(BIN)/quakestream demo --out demo-out

# A process per core, but for the tests that want the machine for themselves.
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not alone" -n auto --dist worksteal
	$(BIN)/python -m pytest -m "alone and not slow"

test-all: .venv/.dev
	$(BIN)/python -m pytest --hypothesis-profile=explore

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: .venv/.dev
	$(BIN)/mypy

bench: .venv/.dev
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf .venv demo-out
