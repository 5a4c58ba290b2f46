# `make demo` and `make test` work on a fresh clone with nothing but python3, git and make.
#
# Two environments, because lava-nc 0.10.0 needs Python 3.10 and everything else wants a newer one:
#   .venv       Python 3.11 or newer: torch, tonic, everything but Lava
#   .venv-lava  Python 3.10: lava-nc, no torch

SHELL := /bin/bash
# Some machines set it; every command then compiles what it imports anew, which doubles its start.
unexport PYTHONDONTWRITEBYTECODE
UV := .tools/bin/uv
PYTHON ?= 3.11
# uv reads its own names of pip's settings
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export PMSM_HW_LAVA_PYTHON ?= $(CURDIR)/.venv-lava/bin/python
# pyenv's shim for python3.10 only works when it is told which 3.10; elsewhere uv downloads one
PYENV_310 := $(shell ls "$${PYENV_ROOT:-$$HOME/.pyenv}/versions" 2>/dev/null | grep -E '^3\.10\.' | sort -V | tail -1)

.PHONY: demo test test-venv test-lava test-long lint docs bench fuzz setup clean

setup: .setup/venv .setup/venv-lava

$(UV):
	python3 -m venv .tools
	.tools/bin/pip install --quiet uv

.setup/venv: pyproject.toml constraints.txt $(UV)
	@mkdir -p .setup
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	$(UV) pip install --quiet --python .venv/bin/python -c constraints.txt -e '.[torch,data,nir,plot,docs,dev]'
	@touch $@

# after the other one: both write the package's metadata into the checkout
.setup/venv-lava: pyproject.toml $(UV) | .setup/venv
	@mkdir -p .setup
	$(if $(PYENV_310),PYENV_VERSION=$(PYENV_310)) $(UV) venv --quiet --allow-existing --python 3.10 .venv-lava
	$(UV) pip install --quiet --python .venv-lava/bin/python -e '.[lava,nir,plot,dev]'
	@touch $@

demo: setup
	.venv/bin/pmsm-hw demo

# Both environments at once, one core each; a failure in one does not hide the other's. What is slow
# and the same everywhere runs in one of them (tests/shares.py), in `make test-long` in both.
test: setup
	@$(MAKE) --no-print-directory test-lava > .setup/tests-lava.log 2>&1 & \
	$(MAKE) --no-print-directory test-venv; main=$$?; wait $$!; lava=$$?; \
	echo "== the same tests on Python 3.10 with lava-nc"; cat .setup/tests-lava.log; \
	python3 .ci/count_tests.py .setup/tests.xml .setup/tests-lava.xml && \
	test $$main -eq 0 -a $$lava -eq 0

# with "=": a value of its own would be taken for the folder of the tests
SHARED := $(if $(filter long,$(PMSM_HW_HYPOTHESIS)),,yes)
test-venv: setup
	@rm -f .setup/tests.xml
	@.venv/bin/pytest -q $(if $(SHARED),--share=.venv) --junitxml=.setup/tests.xml

test-lava: setup
	@rm -f .setup/tests-lava.xml
	@.venv-lava/bin/pytest -q $(if $(SHARED),--share=.venv-lava) --junitxml=.setup/tests-lava.xml

test-long: export PMSM_HW_HYPOTHESIS = long
test-long: test

lint: .setup/venv
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# The site, in build/site; fails on a broken link, a missing anchor, a request to another host.
docs: export NO_MKDOCS_2_WARNING = 1
docs: .setup/venv
	.venv/bin/python docs/tools/cli_reference.py --check
	.venv/bin/mkdocs build --strict

# Speed and mapping figures; the accuracy tables train for an hour or more and are run by hand.
BENCHMARKS := $(filter-out harness accuracy_%,$(basename $(notdir $(wildcard benchmarks/*.py))))
bench: setup
	$(foreach name,$(BENCHMARKS),$(if $(filter lava loihi,$(name)),.venv-lava,.venv)/bin/python benchmarks/$(name).py --json benchmarks/results/$(name).json &&) true

fuzz: setup
	.venv/bin/python tests/fuzz_files.py --cases 20000
	.venv/bin/python tests/fuzz_chips.py --cases 5000
	.venv/bin/python tests/fuzz_data.py --cases 5000
	.venv/bin/python tests/nir_graphs.py --cases 2000
	.venv/bin/python tests/nir_graphs.py --cases 150 --bits
	.venv-lava/bin/python tests/fuzz_cuba_lif.py --cases 300

clean:
	rm -rf .setup .venv .venv-lava .tools
