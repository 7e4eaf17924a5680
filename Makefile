# Each target is one line a person could type; the first run makes .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench drill serve

demo: .venv/installed
	$(BIN)/thermoscale-train demo

test: .venv/installed
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

bench: .venv/installed
	$(BIN)/python tests/benchmarks/bench_iustfm.py
	$(BIN)/python tests/benchmarks/bench_mosaic.py
	$(BIN)/python tests/benchmarks/bench_amun.py --threads 1
	$(BIN)/python tests/benchmarks/bench_serving.py
	$(BIN)/python tests/benchmarks/bench_front.py
	$(BIN)/python tests/benchmarks/bench_report.py
	$(BIN)/python tests/benchmarks/bench_worker_memory.py

drill: .venv/installed
	PYTHONPATH=tests $(BIN)/python -m drills

serve: .venv/installed
	$(BIN)/thermoscale serve model_store/*.mar

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0 --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[edge,geo,train,client,serve,dev]"
	touch .venv/installed
