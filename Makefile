# `make engines` sets up everything and builds; `make test` sets up everything and tests; `make check` lints and types.
PYTHON ?= python3.11
READY := .venv/.ready

.PHONY: engines test check clean

engines: $(READY)
	.venv/bin/enginery build

test: $(READY)
	.venv/bin/python -m pytest --numprocesses auto --dist worksteal

check: $(READY)
	.venv/bin/ruff check .
	.venv/bin/mypy

$(READY): requirements.lock pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

clean:
	rm -rf .venv
