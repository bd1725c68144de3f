# On a fresh machine with Python 3.11 or later: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Python keeps what it compiles, also if the environment says otherwise: the suite starts hundreds of processes.
export PYTHONDONTWRITEBYTECODE =
# pip leaves the compiling to what imports a module: of the packages that the suite needs, that is little.
export PIP_COMPILE = 0

.PHONY: demo demo-embed demo-generate docs test sweep train ray browser lint test-oldest test-reader wheel clean

demo: .venv/runtime
	$(BIN)/python examples/demo.py demo

# Vectors of the sample with real weights. Afterwards `make test` also tests the encoders with them.
demo-embed: .venv/demo
	$(BIN)/python -m examples.demo_embed demo

# New matches of the sample, with the same weights and with entities of spaCy.
demo-generate: .venv/demo
	$(BIN)/python -m examples.demo_generate demo

# The documentation as a site: build/site/index.html.
docs: .venv/dev
	$(BIN)/python -m pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	test -s build/site/reference/python/index.html

# The suite, with three workers on two cores, because half of it waits for servers and child processes. Each worker has
# tests that are beside each other, and share what a module makes once.
WORKERS = $(shell expr $$(nproc 2> /dev/null || getconf _NPROCESSORS_ONLN) \* 3 / 2)
test: .venv/dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not sweep"

# The long part of the suite: thousands of damaged, swapped and forked cases.
sweep: .venv/dev
	$(BIN)/python -m pytest -n auto -m sweep

# Afterwards `make test` also tests the training, and `generate --approximate`.
train: .venv/train

# Afterwards `make test` also tests `embed --engine ray`.
ray: .venv/dev
	$(BIN)/python -m pip install --quiet --editable ".[ray]"

# Afterwards `make test` also opens the page of `preview --html` in a headless Chromium (installed by root on Debian).
browser: .venv/dev
	command -v chromium google-chrome || { apt-get update -qq && apt-get install -qq --no-install-recommends chromium; }
	$(BIN)/pip install --quiet playwright

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/newsclippings dataset-infos --check

# The suite on the lowest supported versions, without its long part and without tests that depend on no version: the
# architecture, the benchmarks, the documentation, texts, matching and its ranks, and mutants of files that only this
# package's code reads.
OWN := architecture benchmarks docs fuzz hostile_pickle_mutants hostile_tar pickled_arrays_window tar_walk text checksums links \
    locations matching rules audit merge blocks
test-oldest: .venv-oldest/dev
	.venv-oldest/bin/python -m pytest -m "not sweep" $(OWN:%=--ignore-glob='*/test_%.py')

# Read a built folder with older `datasets` and pyarrow, in an environment without this package.
test-reader: .venv/dev .venv-reader/dev
	NEWSCLIPPINGS_OTHER_PYTHON=$(CURDIR)/.venv-reader/bin/python \
	    $(BIN)/python -m pytest tests/hub/test_push.py -k test_another_version_reads_it

# Check the wheel: the files in it, that it works in an empty environment, and its types.
wheel: .venv/dev
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python tests/contract/wheel_contents.py dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv --without-pip .venv-wheel
	$(BIN)/python -m pip --python .venv-wheel/bin/python install --quiet dist/*.whl
	cd dist && ../.venv-wheel/bin/newsclippings sample sample
	cd dist && ../.venv-wheel/bin/newsclippings build newsclippings --data-dir sample
	cd dist && echo "import newsclippings; reveal_type(newsclippings.verify())" > typed.py && \
	    ../$(BIN)/mypy --strict --config-file= --python-executable ../.venv-wheel/bin/python typed.py | grep 'type is "_newsclippings.*Report"'

.venv/runtime: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" # first with dependency groups
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/dev: .venv/runtime
	$(BIN)/pip install --quiet --group dev
	touch $@

.venv/demo: .venv/runtime requirements-demo.txt
	$(BIN)/python -m pip install --quiet --editable ".[demo]"
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements-demo.txt
	touch $@

.venv/train: .venv/dev tests/train.txt
	$(BIN)/pip install --quiet --constraint tests/train.txt --editable ".[train,lora,approximate]"
	touch $@

.venv-oldest/dev: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-oldest/bin/pip install --quiet --constraint tests/oldest.txt --editable . pytest hypothesis
	touch $@

.venv-reader/dev: tests/reader.txt | .venv/dev
	$(PYTHON) -m venv --without-pip .venv-reader
	$(BIN)/python -m pip --python .venv-reader/bin/python install --quiet --requirement tests/reader.txt
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-reader .venv-wheel dist demo
