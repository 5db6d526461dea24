# make compare   which attention should I use? (on the source of Python's standard library)
# make test      lint, types, layers, laws and tests
# make test-oldest   the hub and the laws of memory on the oldest transformers that is supported; OLDEST=5.12 for another
# make bench     kernels and mixers against their peers, as ratios
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

compare: .venv/ready
	$(BIN)/attime compare

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -n 2 -m "not compiles"
	JAXTYPING_DISABLE=1 $(BIN)/pytest -n 2 -m compiles

OLDEST ?= 5.4
OLD := .venv-transformers-$(OLDEST)
test-oldest: $(OLD)/ready
	$(OLD)/bin/python -m pytest -p no:cacheprovider $(addprefix tests/test_,$(addsuffix .py,hub hub_rotary hub_vision memory_laws saved cli_memory tap sites longmem))

# An environment of its own that falls back on .venv for everything but transformers and what that pins.
$(OLD)/ready: .venv/ready
	$(BIN)/python -m venv $(OLD)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib")); print("$(CURDIR)/src")' > "$$($(OLD)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/attime.pth"
	$(OLD)/bin/python -m pip install --quiet --disable-pip-version-check 'transformers==$(OLDEST).*'
	touch $@

bench: .venv/ready
	for each in windows recurrence scan testtime neighbourhood stream memory memory_quality; do $(BIN)/python benchmarks/$$each.py | tee benchmarks/results/$$each.txt; done

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Made again only when the pins or the package's own requirements change.
.venv/ready: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "attime needs Python 3.11 or newer, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $@

.PHONY: compare test test-oldest bench format
