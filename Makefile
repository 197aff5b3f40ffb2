# `make engines` sets up everything and builds; `make test` sets up everything and tests; `make check` lints and types.
# Commands run as modules: those in .venv/bin hold the path of the environment until enginery.system.relocate has taken it out.
PYTHON ?= python3.11
READY := .venv/.ready
RUN := .venv/bin/python -m

.PHONY: engines test check docs fleet-demo clean

engines: $(READY)
	$(RUN) enginery build

test: $(READY)
	$(RUN) pytest --numprocesses auto --dist worksteal

check: $(READY)
	$(RUN) ruff check .
	$(RUN) mypy

docs: $(READY) .venv-docs/.ready
	$(RUN) docs.generate
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet

fleet-demo: .venv-fleet/.ready
	.venv-fleet/bin/python -m benchmarks.fleet

# What the demo alone needs: an S3 server, and DVC's S3. All else is .venv's.
.venv-fleet/.ready: $(READY) benchmarks/fleet/requirements.txt
	test -x .venv-fleet/bin/python || $(PYTHON) -m venv .venv-fleet
	.venv/bin/python -c "import site; print('import site; site.addsitedir(%r)' % site.getsitepackages()[0])" \
		> $$(echo .venv-fleet/lib/python3*/site-packages)/shared.pth
	.venv-fleet/bin/python -m pip install --quiet --requirement benchmarks/fleet/requirements.txt
	echo '*' > .venv-fleet/.gitignore
	touch .venv-fleet/.ready

.venv-docs/.ready: docs/requirements.lock
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --requirement docs/requirements.lock
	echo '*' > .venv-docs/.gitignore
	touch .venv-docs/.ready

$(READY): requirements.lock pyproject.toml enginery/system/relocate.py
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(RUN) pip install --quiet --requirement requirements.lock
	$(RUN) pip install --quiet --no-deps --no-build-isolation --editable .
	$(RUN) enginery.system.relocate
	.venv/bin/python -c "from enginery.pipeline.site_cache import *; private_site_cache(Path())"
	touch $(READY)

clean:
	rm -rf .venv .venv-docs .venv-fleet
