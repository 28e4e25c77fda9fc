.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PYTORCH_ENABLE_MPS_FALLBACK := 1

.PHONY: help
help:  ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Resonate needs Python 3.11, 3.12 or 3.13; set PYTHON=python3.11 (or so) after make." >&2; exit 2; }
	@echo "Setting up $(VENV): downloads PyTorch and its companions, about 0.5 GB on macOS and 3 GB on Linux"
	@echo "(5 GB on disk there: the Linux builds carry CUDA). Nothing else is fetched."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

.PHONY: setup
setup: $(STAMP)  ## create .venv and install

.PHONY: demo
demo: $(STAMP)  ## restore the bundled recording and print before and after
	@$(BIN)/python infer.py assets/demo/demo.m4a -o out overwrite=true
	@$(BIN)/python -m resonate.evaluate.demo out

.PHONY: test
test: $(STAMP)  ## run the tests (a few minutes)
	@$(BIN)/python -m pytest -rs

.PHONY: test-slow
test-slow: $(STAMP)  ## run the long tests: kills, fuzzing, browser, the guide, longer trainings
	@$(BIN)/python -m pytest -rs -m slow

.PHONY: lint
lint: $(STAMP)  ## check style
	@$(BIN)/ruff check .

.PHONY: clean
clean:  ## remove results and caches, not .venv
	rm -rf out .pytest_cache .ruff_cache .hypothesis build *.egg-info
