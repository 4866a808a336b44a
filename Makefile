PYTHON ?= python3
PY := venv/bin/python
COMPOSE ?= $(shell command -v docker-compose >/dev/null && echo docker-compose || echo docker compose)
LIBRARIANS = $(COMPOSE) -f docker-compose.librarians.yml
AS_ME = mkdir -p tmp && CLIENT_UID=$$(id -u) CLIENT_GID=$$(id -g)
PEERS := nameserver:nameserver alice:storage bob:storage carol:storage client:client admin:admin

help:  ## this list
	@sed -n 's/^\([a-z_-]*\):.*  ## /\1\t/p' Makefile | expand -t 18

venv: venv/.made  ## the virtual environment, exactly as requirements.lock says
venv/.made: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv venv
	$(PY) -m pip install --disable-pip-version-check --quiet --retries 10 --require-hashes -r requirements.lock
	$(PY) -m pip install --disable-pip-version-check --quiet --no-index --no-deps --no-build-isolation -e .
	touch $@

certs: venv  ## a certificate authority and the usual certificates, below certs/
	test -e certs/rootCA.crt || $(MAKE) -C certs ca PY=$(abspath $(PY))
	@set -e; for p in $(PEERS); do n=$${p%:*}; test -e certs/$$n/$$n.crt || \
	  $(MAKE) -C certs peer PY=$(abspath $(PY)) NAME=$$n ROLE=$${p#*:} HOSTS=$$n,localhost,127.0.0.1; done

demo: venv  ## the main job on a cluster of its own, with real input and real accidents
	$(PY) -m goggles.testing.demo

shell: venv  ## the same cluster, with the interactive shell on it
	$(PY) -m goggles.testing.demo --shell

client:  ## the image of docker-compose.yml, with the shell and the servers
	$(COMPOSE) build certificates

run_client:  ## the shell on the site of docker-compose.yml, with ./tmp as its local folder
	$(AS_ME) $(COMPOSE) run --rm client

librarians-demo:  ## four sites in containers: upload a folder at the source, see it arrive everywhere
	$(LIBRARIANS) up -d
	$(AS_ME) $(LIBRARIANS) run --rm -T admin python /demo/show.py

compose-test: venv  ## the tests of the containers, with an engine of their own where none runs
	GOGGLES_INSTALL=1 $(PY) -m pytest tests/containers

test: check  ## everything: the checks, then all tests; JOBS=4 runs four at a time
	$(PY) -m pytest $(if $(JOBS),-n $(JOBS) --dist loadfile --no-loadscope-reorder)

check: venv  ## form, lint, types, layers, known flaws
	$(PY) -m ruff format --check . && $(PY) -m ruff check .
	$(PY) -m mypy && venv/bin/lint-imports --no-cache --no-logo
	$(PY) -m bandit --quiet --recursive --configfile pyproject.toml src && $(PY) delivery/audit.py

chaos: venv  ## faults of all kinds on a site at work; MINUTES=10 SEED=1 KEEP=yes FAULTS=kill,cut DATABASE=postgresql
	$(PY) -m tests.chaos.campaign --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(if $(KEEP),--keep) $(if $(DATABASE),--database $(DATABASE)) --faults "$(FAULTS)"

bench: venv  ## speed, beside the limits of this machine
	$(PY) bench/run.py

pages: venv  ## the pages that are made from the code: settings, commands, errors, metrics, states, methods
	PYTHONPATH=src $(PY) -m goggles.cli.reference
	PYTHONPATH=src $(PY) -m goggles.testing.diagrams

docs: venv requirements-docs.lock  ## all documents as a site, in site/; a link that leads nowhere fails
	$(PY) -m pip install --disable-pip-version-check --quiet --retries 10 --require-hashes -r requirements-docs.lock
	$(PY) -m mkdocs build --strict

clean:  ## remove what the tools and the demo made (certificates, databases, storages stay)
	rm -rf venv build site tmp .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help venv certs demo shell client run_client librarians-demo compose-test test check chaos bench pages docs clean
