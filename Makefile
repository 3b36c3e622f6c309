PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PACKAGES := bench metrics kernels grounding_dino_jt baselines detectors benchmarks perf examples tests

.PHONY: setup bench test test-full wheel lint clean

setup: $(STAMP)

# uv is the only tool taken from outside the lock; the environment itself is pinned and hashed.
$(STAMP): requirements.lock pyproject.toml setup.py
	@command -v uv >/dev/null 2>&1 || $(PYTHON) -m uv --version >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet uv
	@set -e; UV=$$(command -v uv || echo "$(PYTHON) -m uv"); \
	test -x $(BIN)/python || $$UV venv --quiet --python $(PYTHON) $(VENV); \
	$$UV pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock; \
	$$UV pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m ovd_bench.benchmarks.machine.warm
	@touch $@

# A run of its own each time; what the shipped detectors reached when they were made is in results/.
bench: setup
	@$(BIN)/bench run -b shapes --out runs/bench --overwrite always --batch 4 \
		-d owl-nano,grounding-dino-nano,closed-nano,examples/my_detector.py:ColourBlobs \
		-d grounding-dino-controlled,glip-controlled,owl-controlled,clip-region-controlled
	@$(BIN)/bench board --out runs/bench --write
	@echo "the same with charts: runs/bench/board.html"

# A file of tests stays in one process, so that its models and data are made once.
test: setup
	@$(BIN)/pytest -n 2 --dist loadfile

test-full: setup
	@$(BIN)/pytest -n 2 --dist loadfile -m "full or not full"

# Proofs on the built wheel, in environments that uv makes; PROOFS names some of them, NEWEST another newest Python.
NEWEST := 3.14
wheel:
	@$(PYTHON) tests/wheel_proofs.py --python $(PYTHON) --newest $(NEWEST) $(PROOFS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@mkdir -p build/types && ln -sfn "$(CURDIR)" build/types/ovd_bench
	@cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml $(PACKAGES:%=-p ovd_bench.%)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
