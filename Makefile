# What a developer types. Everything lands in .venv/ (two environments) and build/; `make clean`
# removes both. Set PYTHON to use another interpreter: make test PYTHON=python3.12

PYTHON ?= python3.11
DEMO   := .venv/demo
DEV    := .venv/dev
PIP    := -m pip --disable-pip-version-check install -q -c constraints.txt
SOURCES := $(shell find src -type f -not -name '*.pyc')

.DEFAULT_GOAL := help
.PHONY: help demo test lint types docs bench clean

help:  ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: $(DEMO)/.installed  ## install without torch, search the demo photos, write build/demo/demo.html
	@echo "== miniclip demo"
	@$(DEMO)/bin/miniclip demo -o build/demo

test: lint types  ## install with everything, then lint, types and all tests
	@echo "== pytest"
	@OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest -n auto --dist loadfile

lint: $(DEV)/.installed  ## ruff: rules and format
	@echo "== ruff"
	@$(DEV)/bin/ruff check .
	@$(DEV)/bin/ruff format --check .

types: $(DEV)/.installed  ## mypy --strict
	@echo "== mypy"
	@$(DEV)/bin/mypy

docs: $(DEV)/.installed  ## write docs/cli.md again from the command line's own help
	@echo "== docs/cli.md"
	@$(DEV)/bin/typer miniclip.cli.app utils docs --name miniclip --title 'The command line' --output docs/cli.md

bench: $(DEV)/.installed  ## measure throughput and memory of the embedding pipeline
	@echo "== benchmarks"
	@$(DEV)/bin/python benchmarks/embed.py

clean:  ## remove the environments and everything built
	rm -rf .venv build dist

# The demo installs the package as a user would: built, not editable, and without torch.
$(DEMO)/.installed: pyproject.toml constraints.txt $(SOURCES)
	@echo "== installing miniclip[demo] into $(DEMO)"
	@test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	@$(DEMO)/bin/python $(PIP) '.[demo]'
	@touch $@

$(DEV)/.installed: pyproject.toml constraints.txt recipes/requirements.txt
	@echo "== installing miniclip with every extra into $(DEV) (about 3 GB, once)"
	@test -x $(DEV)/bin/python || $(PYTHON) -m venv $(DEV)
	@$(DEV)/bin/python $(PIP) -e '.[train,pull,openvino,milvus,ray,heic,dicom,parquet,watch,demo,serve,dev]' -r recipes/requirements.txt
	@touch $@
