# Two commands on a fresh machine with Python >= 3.10, pip and make:
#   make demo    train the MNIST program and draw what it learned
#   make test    run the tests
# PYTHON picks the interpreter, VENV the environment's folder, JAX_PYTHON another that has JAX; ARGS goes to the demo, PYTEST_ARGS to pytest.
# FUZZ says how many times their examples the property tests draw in `make fuzz`, SEED which ones.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=
export JAX_PYTHON ?= $(VENV)/jax/bin/python
PYTEST_ARGS ?= -q -n auto --dist loadfile
FUZZ ?= 20
SEED := $(or $(SEED),$(shell date +%s))
CONFORMANCE ?= ../shared/conformance
CONFORMANCE_ARGS ?= --samples 4 --dtypes float32 -j 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test fuzz bench lint types conformance check dev clean

help:
	@echo 'make demo         train on MNIST, report, draw mnist.png   (ARGS="--epochs 2")'
	@echo 'make test         install what the tests need and run them (PYTEST_ARGS="-k conv")'
	@echo 'make fuzz         search: the property tests with 20 times as many examples (FUZZ=5 SEED=1 PYTEST_ARGS="tests/autograd -x")'
	@echo 'make lint types   ruff; mypy'
	@echo 'make check        lint, types and tests: what CI runs'
	@echo 'make bench        training and inference against PyTorch 2.13, which it installs (ARGS="--only GPT --compile --markdown")'
	@echo '                  (with JAX 0.10.2 jitted beside it, which it then installs: ARGS="--jax")'
	@echo 'make conformance  PyTorch operator samples against the package (needs PyTorch 2.13)'

demo: $(VENV)/.installed-demo
	$(PY) examples/demo.py $(ARGS)

test: $(VENV)/.installed-test
	$(PY) -m pytest $(PYTEST_ARGS)

# Fresh examples at each call, also where CI is set. The command is printed with its seed: the same seed draws the same examples.
fuzz: $(VENV)/.installed-test $(VENV)/.installed-torch
	env -u CI FUZZ=$(FUZZ) $(PY) -m pytest --hypothesis-seed=$(SEED) $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .

types: $(VENV)/.installed-dev
	$(PY) -m mypy

check: lint types test

dev: $(VENV)/.installed-dev

bench: $(VENV)/.installed-torch $(if $(filter --jax,$(ARGS)),$(JAX_PYTHON))
	$(PY) -m benchmarks $(ARGS)

conformance: $(VENV)/.installed-dev $(VENV)/.installed-torch
	$(PY) $(CONFORMANCE)/conformance.py $(CONFORMANCE_ARGS) --json conformance.json
	$(PY) tests/check_floors.py conformance.json tests/floors.json

# The environment. A stamp per extra makes the second call immediate; editing pyproject.toml renews it.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "rushlight: $(PYTHON) is missing or older than 3.10; name another with: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "rushlight: $(PYTHON) cannot create $(VENV) (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }

$(VENV)/.installed-demo $(VENV)/.installed-test $(VENV)/.installed-dev: $(VENV)/.installed-%: pyproject.toml | $(PY)
	@echo "installing rushlight[$*] into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[$*]' \
	  || { echo "rushlight: pip could not install what 'make $*' needs: is the network (or PIP_INDEX_URL) reachable?" >&2; exit 1; }
	@touch $@

# The CPU build: from wherever pip is configured to look, else from PyTorch's own index of CPU wheels.
$(VENV)/.installed-torch: pyproject.toml $(VENV)/.installed-test
	@echo "installing PyTorch 2.13 (CPU) into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --retries 1 expecttest 'torch==2.13.0+cpu' 2>/dev/null \
	  || $(PY) -m pip install --quiet --disable-pip-version-check --retries 1 \
	       --extra-index-url https://download.pytorch.org/whl/cpu expecttest 'torch==2.13.0+cpu' \
	  || $(PY) -m pip install --quiet --disable-pip-version-check --retries 1 expecttest 'torch==2.13.0' \
	  || { echo "rushlight: PyTorch 2.13 could not be installed; only the comparisons with it need it" >&2; exit 1; }
	@touch $@

# JAX has an environment of its own, so that what the tests run with does not depend on it.
$(VENV)/jax/bin/python: | $(PY)
	@echo "installing JAX 0.10.2 (CPU) into $(VENV)/jax"
	@{ $(PY) -m venv $(VENV)/jax && $@ -m pip install --quiet --disable-pip-version-check 'jax==0.10.2'; } \
	  || { rm -rf $(VENV)/jax; echo "rushlight: JAX 0.10.2 could not be installed (it needs Python 3.11); only --jax needs it" >&2; exit 1; }

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis conformance.json
