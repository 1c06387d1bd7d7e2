# Everything that a fresh clone needs: `make demo`, `make test`.
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

CONFIG ?= config/demo.yaml

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo bench test test-long test-slurm lint schema clean

define SCHEMA
import pathlib, yaml
from ecsnet.reference import configuration
from ecsnet.schema import json_schema
from ecsnet.settings import Config
head = "# Generated from ecsnet/settings.py by `make schema`; editors complete and check the configs with it.\n"
schema = {"$$schema": "https://json-schema.org/draft/2020-12/schema", **json_schema(Config)}
text = head + yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=100)
pathlib.Path("workflow/schemas/config.schema.yaml").write_text(text, encoding="utf-8")
pathlib.Path("docs/configuration.md").write_text(configuration(), encoding="utf-8")
endef
export SCHEMA

TOOLS = export PATH="$(CURDIR)/.venv/bin:$$PATH";

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 17

setup: .venv/.stamp ## install everything into .venv

# Made again when a pin changes; a stopped installation leaves no stamp and is taken up.
.venv/.stamp: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "ecsnet needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." \
		"Install one and name it: make setup PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check -r requirements.txt
	.venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## run the whole pipeline on a generated data set, some minutes on a CPU
	@$(TOOLS) snakemake --cores $(CORES) --configfile config/demo.yaml
	@$(TOOLS) snakemake --report results/demo/report.html --configfile config/demo.yaml --quiet
	@echo "Open results/demo/overview.html, or results/demo/report.html with the graph of the workflow"

bench: setup ## measure speed, on the finished run of CONFIG (default: the demo), into benchmarks/tables/
	@$(TOOLS) python benchmarks/bench.py --configfile $(CONFIG) --threads $(CORES)

test: setup ## run the tests
	@$(TOOLS) pytest -m "not long and not slurm"

test-long: setup ## run the long tests: runs that are killed, stopped and changed
	@$(TOOLS) pytest -m long

test-slurm: setup ## run the tests on a real SLURM (Debian's slurmctld, slurmd, slurm-client, munge; as root)
	@$(TOOLS) pytest -m slurm

lint: setup ## check style and types
	@$(TOOLS) ruff check . && ruff format --check . && mypy && snakefmt --check Snakefile workflow

schema: setup ## write the configuration's schema and reference anew, after a change of ecsnet/settings.py
	@.venv/bin/python -c "$$SCHEMA"

clean: ## remove .venv and caches; data, results and logs stay
	rm -rf .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache build *.egg-info
	find ecsnet tests -name __pycache__ -exec rm -rf {} +
