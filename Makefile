# Every target works from a fresh clone and writes only inside this folder:
# what is built goes to .venv, dist and demo, everything that tools keep to .cache.

PYTHON ?= python3

CACHE := $(CURDIR)/.cache
export XDG_CACHE_HOME := $(CACHE)
export PIP_CACHE_DIR := $(CACHE)/pip
export KERAS_HOME := $(CACHE)/keras
export MPLCONFIGDIR := $(CACHE)/matplotlib
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export TMPDIR := $(CACHE)/tmp
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Of the caller's settings for pip only those stay that say how an index is reached; --target, --user,
# --no-deps, another constraints file and the like would install something else than what is asked for.
PIP_KEPT := PIP_CACHE_DIR PIP_CERT PIP_CLIENT_CERT PIP_CONFIG_FILE PIP_DEFAULT_TIMEOUT \
  PIP_DISABLE_PIP_VERSION_CHECK PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_INDEX_URL PIP_KEYRING_PROVIDER \
  PIP_NO_INDEX PIP_PROXY PIP_RETRIES PIP_TIMEOUT PIP_TRUSTED_HOST
$(foreach v,$(filter-out $(PIP_KEPT),$(filter PIP_%,$(.VARIABLES))),$(eval unexport $(v)))
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE
unexport KERAS_BACKEND TF_USE_LEGACY_KERAS

BIN := .venv/bin
PIP := $(BIN)/python -m pip
INSTALL := $(PIP) install --quiet --quiet --no-build-isolation -c constraints.txt
BUILD_TOOLS := hatchling editables
DEMO := -e './runtime[litert]' -e .
PROJECTS := -e './runtime[litert,mqtt,openvino,parquet,ray]' -e '.[bench,dev]'

# Two processes of TensorFlow's tests do not fit into 4 GB.
WORKERS = $(shell awk '/^MemTotal/ { print ($$2 > 7000000 ? 2 : 1) }' /proc/meminfo)

# $(call need_python,HIGHEST,WHO): one clear line, instead of a resolver's page, where $(PYTHON) will not do.
need_python = @$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, $(1)) or \
  sys.exit("$(2), and $(PYTHON) is Python %d.%d: name another, as in make PYTHON=python3.11" % v)'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help .venv apt bench bench-quick demo check test test-fast test-processors wheels constraints clean

help:  ## list the targets
	@echo 'make TARGET [PYTHON=python3]   (PYTHON is what .venv is made with: 3.11, 3.12 or 3.13)'
	@sed -n 's/^\([a-z0-9.-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

.venv: .venv/.installed  ## the environment with both packages, editable, and the tools

# New constraints make a new environment, so that nothing lingers that they no longer name;
# an edited pyproject only installs again.
.venv/.made: constraints.txt
	@$(PYTHON) .ci/machine.py
	@mkdir -p .cache/tmp
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --quiet --quiet -c constraints.txt $(BUILD_TOOLS)
	@touch $@

# In two steps, so that who wants to see the demo need not wait for what only tests and benchmarks use.
.venv/.demo: .venv/.made pyproject.toml runtime/pyproject.toml
	@echo 'installing edgeae and TensorFlow into .venv (about 800 MB to download, 2.8 GB on disk; a few minutes)'
	@$(INSTALL) $(DEMO)
	@touch $@

.venv/.installed: .venv/.demo
	@echo 'installing what tests and benchmarks use (about 200 MB to download, 0.7 GB on disk; a minute or two)'
	@$(INSTALL) $(PROJECTS)
	@touch $@

demo: .venv/.demo  ## train, export and score a small example into demo/
	@echo 'training, exporting and comparing (about a minute)'
	@$(BIN)/edgeae demo --out demo --force

bench: .venv  ## measure ours and the peers, and make benchmarks/README.md of it (20 minutes; keep the machine idle)
	$(BIN)/python benchmarks/run.py

bench-quick: .venv  ## the same with fewer models and rounds, into .cache/bench-quick
	$(BIN)/python benchmarks/run.py --quick

check: .venv  ## lint, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .cache/import_linter

test: $(if $(APT),apt) check  ## check, then every test; APT=1 first installs the Debian packages that some want
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

apt:
	@$(PYTHON) tests/packages.py

test-fast: .venv  ## the unit tests alone, without the slow ones
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m 'not slow' tests/export tests/runtime tests/trainer

test-processors: .venv  ## the runtime on seven other processors, x86 and Arm, emulated (Debian 12's qemu-user)
	$(BIN)/pytest tests/processors
	$(BIN)/python benchmarks/instructions.py --check

.cache/build/.made: constraints.txt
	$(call need_python,13,edgeae needs Python 3.11 to 3.13)
	@mkdir -p .cache/tmp
	@$(PYTHON) -m venv --clear .cache/build
	@.cache/build/bin/python -m pip install --quiet --quiet -c constraints.txt $(BUILD_TOOLS)
	@touch $@

wheels: .cache/build/.made  ## build both wheels into dist/, in half a minute
	@rm -rf dist
	@.cache/build/bin/python -m pip wheel --quiet --quiet --no-deps --no-build-isolation -w dist ./runtime .
	@ls dist/*

# Resolved on the oldest Python: what still supports 3.11 has wheels for the newer ones too, not the reverse.
# setuptools is named since TensorFlow takes any, and a 3.11 environment brings one too old for 3.12.
constraints:  ## renew constraints.txt from a fresh environment (with Python 3.11)
	$(call need_python,11,constraints.txt is made with Python 3.11)
	@mkdir -p .cache/tmp
	$(PYTHON) -m venv --clear .cache/fresh
	.cache/fresh/bin/python -m pip install --upgrade setuptools $(BUILD_TOOLS)
	.cache/fresh/bin/python -m pip install --no-build-isolation $(PROJECTS)
	{ echo '# Made by "make constraints" with Python 3.11; good for 3.12 and 3.13 too. Not to be edited by hand.'; \
	  .cache/fresh/bin/python -m pip freeze --all --exclude-editable --exclude pip; } > .cache/constraints.txt
	! grep -nE '://| @ |^-' .cache/constraints.txt
	mv .cache/constraints.txt constraints.txt
	rm -rf .cache/fresh

clean:  ## remove everything that make made
	rm -rf .venv .cache dist demo
