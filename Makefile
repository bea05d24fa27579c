# Everything a developer types. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := .tools/bin/uv
UV_VERSION := 0.13.9
STAMP := $(VENV)/.installed
export UV_NO_PROGRESS := 1
export UV_PYTHON_DOWNLOADS := never
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run test check docs bench soak lock clean

help:           ## show this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(UV):
	$(PYTHON) -m pip install --quiet --no-cache-dir --root-user-action=ignore --target .tools uv==$(UV_VERSION)

$(STAMP): constraints.txt pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes constraints.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP) ## install the pinned versions into .venv

run: $(STAMP)   ## check, plan, apply and run the shipped schedules.yaml once, now
	@echo "== runner validate"; $(BIN)/runner validate
	@echo; echo "== runner plan"; $(BIN)/runner plan
	@echo; echo "== runner run-once --trigger-all"; $(BIN)/runner run-once --trigger-all
	@echo; echo "What they stored is in .runner/content.db, the jobs are in runner.db. Next:"
	@echo "  $(BIN)/runner jobs show 1            one job, its result and its attempts"
	@echo "  $(BIN)/runner schedules next         when each schedule fires by itself"
	@echo "  $(BIN)/runner plan                   after an edit of schedules.yaml: what it would do"

test: $(STAMP)  ## all tests
	$(BIN)/python -m pytest

check: $(STAMP) ## format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(STAMP)  ## write the generated pages of docs/
	$(BIN)/python docs/generate.py

bench: $(STAMP) ## measurements, side by side; about half an hour
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.http
	$(BIN)/python -m benchmarks.postgresql

soak: $(STAMP)  ## faults at length: SOAK="--seed 7 --jobs 2000 kill stop lock"; about eight minutes
	$(BIN)/python -m tests.faults.soak $(SOAK)

lock: $(UV)     ## resolve again and write constraints.txt (the lock file itself stays here, it names hosts)
	$(UV) lock --quiet --upgrade
	$(UV) export --quiet --format requirements-txt --all-extras --all-groups --no-emit-project --no-header -o constraints.txt

clean:          ## remove what the build and the runs made
	rm -rf $(VENV) .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build runner.db* .runner
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
