# pip only. PIP_INDEX_URL and pip's other variables, and its configuration files, work as usual.
PYTHON ?= python3
PY     := .venv/bin/python
# What is imported is compiled then, and kept; pip would compile all that nobody imports too.
INSTALL = $(PY) -m pip install -q --no-compile -c constraints.txt -e

export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test thorough setup browser coverage clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile
	@echo "PYTHON=... chooses the interpreter for .venv (now $(PYTHON); 3.11 or newer)"

demo: .venv/installed-core  ## install into .venv, then a small run from training to report, in expunge-demo/
	@.venv/bin/expunge demo --out expunge-demo --overwrite

test: .venv/installed-dev  ## install into .venv with the tools, then lint, format, types and tests
	@scripts/check

thorough: .venv/installed-dev  ## what continuous integration runs beside `make test`: another ten minutes
	@scripts/check --thorough

setup: .venv/installed-dev  ## install into .venv with the development tools

browser: .venv/installed-dev  ## pictures of the pages in headless Chromium (which must be installed): build/screenshots/
	@OMP_NUM_THREADS=1 $(PY) tests/browser/screenshots.py --out build/screenshots

coverage: .venv/installed-dev  ## line and branch coverage of the tests, of every process that they start
	@$(PY) -m pip install -q -c constraints.txt 'coverage>=7.10'
	@rm -rf build/coverage && mkdir -p build/coverage
	@OMP_NUM_THREADS=1 $(PY) -m coverage run -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
	@$(PY) -m coverage combine -q && $(PY) -m coverage report --skip-covered

clean:  ## remove .venv, the demo's output and every cache
	rm -rf .venv expunge-demo build dist src/expunge.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is older than what it was made from when the environment must be brought up to date.
# A .venv made by hand has no stamp and is installed into.
.venv/installed-core: pyproject.toml constraints.txt
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@echo "installing into .venv"
	@$(INSTALL) .
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@echo "installing into .venv, with the development tools"
	@$(INSTALL) '.[dev]'
	@touch $@ .venv/installed-core
