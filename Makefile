# Two commands on a fresh machine with git, make and Python 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# A CPU build of torch is all that is needed; an unpinned one may bring several GB of CUDA. TORCH_INDEX names an index of CPU wheels.
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
BIN := $(VENV)/bin

.PHONY: demo test lint docs smoke full benchmarks zoo clean
.DEFAULT_GOAL := test

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

demo: $(VENV)/.installed  ## three pull requests on real weights, reviewed
	$(BIN)/python -m demo

test: $(VENV)/.installed  ## the fast tests
	$(BIN)/pytest -n 2

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## fails where a generated page, help text or the sample comment has drifted
	$(BIN)/python -m docs.generate --check

smoke: $(VENV)/.installed  ## the slow suites, and small benchmarks (a busy machine may miss their ratios: that is shown, not failed)
	$(BIN)/pytest -n 2 --dist loadgroup -m slow
	-$(BIN)/python -m benchmarks.difference --size 0.1
	-$(BIN)/python -m benchmarks.hook

full: lint docs $(VENV)/.installed  ## everything, whole
	$(BIN)/pytest -n 2 --dist loadgroup -m "slow or not slow"
	$(MAKE) demo benchmarks zoo

benchmarks: $(VENV)/.installed
	$(BIN)/python -m benchmarks.difference
	$(BIN)/python -m benchmarks.hook
	$(BIN)/python -m benchmarks.install
	$(BIN)/python -m benchmarks.registry

zoo: $(VENV)/.installed  ## trains the zoo (kept in .cache/zoo) and writes docs/zoo.md: 20 minutes on two idle cores, less with a full cache
	$(BIN)/python -m benchmarks.zoo

clean:
	rm -rf $(VENV) .demo build dist *.egg-info
