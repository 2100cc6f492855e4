# make demo [SECONDS=10]   the real daemon, a producer and two clients, side by side; until Ctrl-C without SECONDS
# make test [ARGS=...] [INSTALL=no]
#                          every test; ARGS goes to pytest. Programs that tests run and that are missing are installed from Debian
# make lint                ruff and mypy
# make bench [CASES='to-all idle'] [OUT=bench/out] [FULL=1] [JSON=1]
#                          the daemon beside nchan and a floor in C, where they are; FULL takes 23 minutes instead of 10
# make fuzz [SECONDS=60] [TARGET=head]
#                          searches for inputs that break a promise, with atheris; docs/security.md
# make bench-peers         one load on nchan, Pushpin, sse-starlette and better-sse, where they are; it says how to install the others
#
# Each works as the first command in a fresh clone: .venv is made on demand, and made anew from setup.cfg when that changes.

.PHONY: demo test lint bench bench-peers fuzz clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
BENCH_READY := $(VENV)/.installed-bench
FUZZ_READY := $(VENV)/.installed-fuzz

# Taken from the command line only: a shell counts its own SECONDS, and some export it.
ifneq ($(filter command,$(origin SECONDS)),)
TIME_ARGS := --seconds $(SECONDS)
endif
unexport SECONDS
ARGS ?=
INSTALL ?= yes
OUT ?= bench/out
CASES ?=
TARGET :=
BENCH_ARGS := $(if $(FULL),--full) $(if $(JSON),--json)

demo: $(READY)
	@$(BIN)/python examples/demo.py $(TIME_ARGS)

test: $(READY)
	@INSTALL=$(INSTALL) .ci/tools
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCH_READY)
	@$(BIN)/python -m bench.run $(BENCH_ARGS) --out $(OUT) $(CASES)

bench-peers: $(BENCH_READY)
	@$(BIN)/python -m bench.run --peers $(BENCH_ARGS) --out $(OUT)/peers $(CASES)

fuzz: $(READY)
	@[ -e $(FUZZ_READY) ] || $(MAKE) --no-print-directory $(FUZZ_READY) || true
	@$(BIN)/python -m tests.fuzz.run $(TIME_ARGS) $(TARGET)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz

# A name on the path proves little (it may be a version manager's empty shim): the first that runs and is new enough is taken.
$(READY): setup.cfg pyproject.toml
	@found=; for python in $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "make: Python 3.11 or newer is needed, and none of python3.11 .. python3.14 or python3 is that; name one: make PYTHON=..." >&2; \
	    exit 1; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
	    echo "==> making $(VENV) with $$($$found --version)"; \
	    $$found -m venv $(VENV) || { rm -rf $(VENV); \
	        echo "make: $$found cannot make a virtual environment; Debian has that in the package python3-venv" >&2; exit 1; }; \
	fi
	@echo "==> installing sse-daemon and what it needs into $(VENV) (once; about a minute)"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable '.[dev]'
	@echo "==> ready"
	@touch $(READY)

# Only the curves need more than the tests do.
$(BENCH_READY): $(READY)
	@echo "==> installing what draws the curves"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $(BENCH_READY)

# It exists as wheels for the usual machines only, and building it takes a compiler of its own: without one the search is blind, and says so.
$(FUZZ_READY): $(READY)
	@echo "==> installing atheris, which leads the search by coverage"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --only-binary atheris --editable '.[fuzz]'
	@touch $(FUZZ_READY)
