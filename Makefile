# Headwater's chores. `make demo` or `make test` alone sets up all it needs, once.

# The first Python here that is new enough; name another with `make PYTHON=...`.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; echo "$$python")
UV ?= build/lock/bin/uv

BIN := .venv/bin
READY := .venv/.headwater-ready
BEGUN := .venv/.headwater-begun
INPUTS := requirements.lock pyproject.toml
# RAPIDS stands apart: it is large, needs a CUDA driver to run, and here only its translator is used.
GPU_BIN := .venv-gpu/bin
GPU_READY := .venv-gpu/.headwater-ready
# The Azure server of the tests; older ones fail Delta commits from the second version on.
AZURITE := azurite@3.37.0
AZURITE_READY := .venv/azurite/.ready
# No isolation: what builds is in the lock as well. Quiet: pip's warnings repeat for each package.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input \
	--no-build-isolation --no-deps

# Pyright runs on the system's Node and must neither look for a newer self nor complain of its age.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help demo clouds test check check-gpu trials bench docs docs-gpu lock clean setup setup-gpu
.DEFAULT_GOAL := help

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

demo: $(READY)  ## Run the flights demo: real data, one Delta table, a receipt
	@$(BIN)/headwater demo

clouds: $(READY) $(AZURITE_READY)  ## Start S3, GCS and Azure on loopback, and say what to export; Ctrl-C ends them
	@HEADWATER_AZURITE=$(CURDIR)/.venv/azurite/node_modules/.bin/azurite-blob \
		$(BIN)/python -m tests.emulators.clouds

test: $(READY) $(AZURITE_READY)  ## Run the tests: unit, contract, emulated, e2e
	@HEADWATER_AZURITE=$(CURDIR)/.venv/azurite/node_modules/.bin/azurite-blob \
		$(BIN)/python -m pytest -m "not gpu and not cloud and not trial and not rapids" \
		--durations 30 --durations-min 3

check: $(READY)  ## Lint, type-check, check the imports' direction and run the docstrings' examples
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports pyproject.toml --no-logo
	$(BIN)/python -m pytest -q --doctest-modules .src/headwater

check-gpu: $(GPU_READY)  ## Translate all plans for the GPU engine; needs 5 GB, and no GPU
	@$(GPU_BIN)/python -m tests.gpu.translate
	@$(GPU_BIN)/python -m pytest -q -m rapids tests/contract/test_gpu_fallback.py

# Each outcome is kept as it comes: a call that was cut off goes on, and repeats what failed.
trials: $(READY) $(AZURITE_READY)  ## Run the long trials not passed on this commit (FRESH=1: all)
	@HEADWATER_AZURITE=$(CURDIR)/.venv/azurite/node_modules/.bin/azurite-blob \
		$(BIN)/python -m pytest -m "trial and not gpu and not cloud and not rapids" --timeout 3600 \
		--trial-results tests/trials/results.json $(if $(FRESH),--fresh-trials)

bench: $(READY)  ## Run the benchmarks, or one of them: make bench ONLY=name
	@$(BIN)/python -m tests.benchmarks.run $(ONLY)

docs: $(READY)  ## Write docs/steps.md anew from the docstrings of the steps
	@$(BIN)/python -m headwater.tasks.steps.docs docs/steps.md

docs-gpu: $(GPU_READY)  ## Write docs/gpu.md anew: what runs on the GPU, and what falls back
	@$(GPU_BIN)/python -m tests.gpu.translate --write

lock:  ## Renew requirements.lock from pyproject.toml (UPGRADE=1: to the newest versions)
	@[ -x "$$(command -v $(UV))" ] || { $(PYTHON) -m venv build/lock && build/lock/bin/pip install -q uv; }
	@$(UV) pip compile -q pyproject.toml --extra demo --extra aws --group dev \
		--universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		$(if $(UPGRADE),--upgrade) -o requirements.lock
	@echo "requirements.lock: $$(grep -c '^[a-z]' requirements.lock) packages"

clean:  ## Remove what make made: the environments, caches and builds
	@if [ -d .venv ] && [ ! -e $(BEGUN) ]; \
	then echo "left as it is: .venv (make did not make it)"; else rm -rf .venv; fi
	@rm -rf .venv-gpu build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find .src flows tasks infra tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Of two makes at once one sets up and the other waits: a lock on this file, held through exec.
$(READY): $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Headwater needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "  -> name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import fcntl, os, sys; \
		lock = os.open("Makefile", os.O_RDONLY); fcntl.flock(lock, fcntl.LOCK_EX); \
		os.set_inheritable(lock, True); os.execvp(sys.argv[1], sys.argv[1:])' \
		$(MAKE) --no-print-directory PYTHON='$(PYTHON)' setup

# Without Node, or without its registry, the tests that need it are skipped by name; the next call
# tries again.
$(AZURITE_READY): $(READY)
	@mkdir -p .venv/azurite; if ! command -v npm > /dev/null; then \
		echo "npm is not here: tests against Azure's server are skipped"; \
	elif npm install --prefix .venv/azurite --no-save --no-package-lock --no-audit --no-fund \
		--fetch-timeout 60000 --fetch-retries 1 --silent $(AZURITE); then touch $@; \
	else echo "npm could not install $(AZURITE): tests against Azure's server are skipped"; fi

# Without the mark of a finished set-up the environment is built anew: an install that was cut off
# leaves packages that pip takes for whole. An environment that make did not begin is not touched.
setup:
	@if [ -e $(READY) ] && [ -z "$$(find $(INPUTS) -newer $(READY))" ]; then exit 0; fi; \
	set -e; start=$$(date +%s); \
	if [ -d .venv ] && [ ! -e $(BEGUN) ]; then \
		echo ".venv exists, and make did not make it." >&2; \
		echo "  -> move it away, then run make again" >&2; exit 1; fi; \
	if [ ! -e $(READY) ] || ! $(BIN)/python -c '' 2>/dev/null; then \
		rm -rf .venv; mkdir .venv; touch $(BEGUN); $(PYTHON) -m venv .venv; fi; \
	rm -f $(READY); touch $(BEGUN); \
	echo "Setting up .venv: $$(grep -c '^[a-z]' requirements.lock) locked packages, about two minutes, once"; \
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > .venv/build.lock; \
	$(INSTALL) --require-hashes -r .venv/build.lock; \
	$(INSTALL) --require-hashes -r requirements.lock; \
	$(INSTALL) --no-index -e .; \
	$(BIN)/python -P -m headwater.flows.prefect_child --build-template > .venv/template.log 2>&1 \
		|| { cat .venv/template.log >&2; exit 1; }; \
	touch -r $(BEGUN) $(READY); \
	echo "Set up in $$(( $$(date +%s) - start )) s"

$(GPU_READY): $(INPUTS)
	@$(PYTHON) -c 'import fcntl, os, sys; \
		lock = os.open("Makefile", os.O_RDONLY); fcntl.flock(lock, fcntl.LOCK_EX); \
		os.set_inheritable(lock, True); os.execvp(sys.argv[1], sys.argv[1:])' \
		$(MAKE) --no-print-directory PYTHON='$(PYTHON)' setup-gpu

# What is in the lock has its locked version here, too, but for numpy: numba may ask for an older one.
# Of RAPIDS only cudf-polars is installed, in the range of pyproject's extra.
setup-gpu:
	@if [ -e $(GPU_READY) ] && [ -z "$$(find $(INPUTS) -newer $(GPU_READY))" ]; then exit 0; fi; \
	set -e; start=$$(date +%s); \
	engine=$$(sed -n 's/^ *"\(cudf-polars-cu12[^;" ]*\).*/\1/p' pyproject.toml); \
	echo "Setting up .venv-gpu: $$engine and what it needs, about 5 GB and four minutes, once"; \
	if [ ! -e $(GPU_READY) ] || ! $(GPU_BIN)/python -c '' 2>/dev/null; then \
		rm -rf .venv-gpu; $(PYTHON) -m venv .venv-gpu; fi; \
	rm -f $(GPU_READY); touch .venv-gpu/.headwater-begun; \
	sed -n 's/^\([a-z0-9-]*==[^\]*\) \\$$/\1/p' requirements.lock | grep -v '^numpy==' \
		> .venv-gpu/constraints.txt; \
	$(GPU_BIN)/python -m pip install -qq --disable-pip-version-check --no-input \
		-c .venv-gpu/constraints.txt -e . "$$engine" pytest pytest-socket pytest-timeout psutil; \
	touch -r .venv-gpu/.headwater-begun $(GPU_READY); \
	echo "Set up in $$(( $$(date +%s) - start )) s"
