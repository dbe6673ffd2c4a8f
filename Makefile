# Two commands: `make phase1` runs phase 1 on the embedded default, `make test` passes the tests. Both set up .venv.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
RUN := $(VENV)/bin/python
export OMP_WAIT_POLICY ?= passive
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: help setup phase1 real services fuzzer test fast faults random gpu fuzz mutants audit docs check format clean

help:
	@echo "make phase1   phase 1 on the embedded default (sets up $(VENV) first)"
	@echo "make test     all tests;  make fast: those without the mark slow"
	@echo "make real     a real public model of 135M parameters, for the tests with the mark real"
	@echo "make fuzzer   atheris, for the tests that follow coverage for some seconds"
	@echo "make services Debian packages that some tests use: Chromium, Slurm, PostgreSQL, OpenSSH, iproute2, a C compiler (needs apt-get and root)"
	@echo "make faults   the matrix of faults (docs/reliability.md), with the cells that the other targets leave out"
	@echo "make random   the same as fast in an order drawn from SEED=1"
	@echo "make gpu      tests that need a GPU, in one process and an order drawn from SEED=1; with two GPUs those that need two"
	@echo "make fuzz     settings, rows, answers, alignment and records, for FUZZ_SECONDS=300 by coverage (atheris), and as many at random"
	@echo "make mutants PIECE=tune_spaces.gate: small changes to pure modules that their tests notice, and those they don't"
	@echo "make audit    known vulnerabilities of the pinned packages, if the index answers; build/sbom.json lists what is installed"
	@echo "make docs     the documentation as a site, in build/site; a broken link is an error"
	@echo "make check    ruff, ruff format, mypy, import-linter;  make format: mend what ruff can"

setup: $(VENV)/.installed

# torch goes first and pinned: a range could pull gigabytes of CUDA onto a machine without a GPU.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) torch
	$(RUN) -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	@touch $@

phase1: setup
	$(RUN) -m cluster phase1 --preset tiny $(ARGS)

# Tests of a real model skip without it, and say so.
real: setup
	$(RUN) -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev,real]"
	$(RUN) -m tests.support.real_model

# atheris for the tests that follow coverage for seconds; where the index has no wheel of it, they skip and say so.
fuzzer: setup
	-$(RUN) -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev,fuzz]"

# Tests of a browser, a batch system, a database server, an SSH server and several hosts skip without them, and say so.
SERVICES := chromium chromium-driver slurm-wlm munge postgresql openssh-client openssh-server iproute2 gcc libc6-dev
services:
	dpkg -s $(SERVICES) >/dev/null 2>&1 || \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SERVICES); }

# Workers of one thread each, one more than CI has cores: the integration tests mostly wait. ARGS="-n 0" is one process.
JOBS ?= 3
test fast faults random: export OMP_NUM_THREADS ?= 1
# The rewritten tests are kept: without them each run compiles 400 files again in each worker.
unexport PYTHONDONTWRITEBYTECODE

test: setup
	$(RUN) -m pytest -n $(JOBS) $(ARGS)

fast: setup
	$(RUN) -m pytest -n $(JOBS) -m "not slow" $(ARGS)

# Tests with the mark long take minutes and run here alone: cells of the matrix, and some of the integration tests.
faults: setup
	FAULTS=all $(RUN) -m pytest -n $(JOBS) tests/faults tests/integration/test_resident.py tests/integration/test_slurm.py \
	    tests/integration/test_storage_paths.py tests/integration/test_two_campaigns.py $(ARGS)

# A test that passes only after or before another one shows itself here; a failure is repeated with the same SEED.
SEED ?= 1
random: setup
	$(RUN) -m pytest -n $(JOBS) -m "not slow" -p randomly --randomly-seed=$(SEED) $(ARGS)

# One process: what one test leaves on the device is there for the next. `make real` first, or those of a real model skip.
gpu: setup
	$(RUN) -m pytest -m gpu -p randomly --randomly-seed=$(SEED) tests/ray_bridge tests/benchmarks \
	    tests/cluster/preflight $(ARGS)

# What it finds becomes a case of tests/test_fuzzing.py (bytes) or tests/cluster/cli/test_wrong_requests.py (commands).
FUZZ_SECONDS ?= 300
fuzz: fuzzer
	$(RUN) -m tests.support.fuzz --seconds $(FUZZ_SECONDS)
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$${FUZZ_SEED:-$$RANDOM} $(RUN) -m pytest -n 0 \
	    tests/cluster/cli/test_fuzzed_records.py -o timeout=0 $(ARGS)

# A piece goes on where it stopped; docs/mutants.md lists the pieces and what no test can notice.
# ARGS="--share 0.3" runs a sample, ARGS="--record after" writes the figures into benchmarks/results/mutants.json.
mutants: setup
	$(RUN) -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev,mutants]"
	$(RUN) -m tests.support.mutants $(PIECE) $(ARGS)

# In an environment of their own, so that what the tools need changes no version here. ARGS="--warn" fails for nothing.
AUDIT := build/audit
audit: setup
	$(PYTHON) -m venv $(AUDIT)
	-$(AUDIT)/bin/python -m pip install -q --disable-pip-version-check "pip-audit>=2.10,<3" "cyclonedx-bom>=7,<8"
	$(RUN) -m tests.support.audit --tools $(AUDIT)/bin $(ARGS)

docs: setup
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict -q -d build/site

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(RUN) -m pytest -q tests/tune_spaces/test_layers.py tests/test_import_contracts.py tests/test_import_circles.py

format: setup
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .mutants
