# Every target makes its own environment first, so each works on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
REQUEST := two red circles, a blue star and a green square

.PHONY: demo test browser test-slow test-ray test-servers lint format wheel-check docs gallery screenshots pocket bench headline acuity asking averaging report-card null help-time batch-figures overlap-time ray-time reliability audit clean

demo: .venv/installed  ## run the main job on the embedded pair
	$(BIN)/gcr refine "$(REQUEST)" --profile pocket

test: browser  ## the whole test suite
	$(BIN)/python -m pytest

browser: .venv/installed  ## for the tests of pages; where none can be had pytest says so
	@$(BIN)/python tests/support/chromium.py

test-slow: .venv/installed  ## the tests that take a minute and more
	$(BIN)/python -m pytest -m slow

test-ray: .venv/with-ray  ## batches on a real Ray cluster on this machine; takes minutes
	$(BIN)/python -m pytest -m slow tests/engine/test_ray.py

test-servers: .venv/installed  ## the embedded critic behind vLLM, llama.cpp and transformers serve
	PYTHONPATH=. $(BIN)/python tests/support/real_servers.py
	$(BIN)/python -m pytest -m slow tests/critic/test_servers.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The wheel in an environment of its own, run from a folder that is not the checkout.
wheel-check: .venv/installed
	rm -rf build/wheel
	$(BIN)/python -m build --wheel --outdir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip install --quiet build/wheel/*.whl -c constraints.txt
	mkdir -p build/wheel/elsewhere
	cd build/wheel/elsewhere && test -f "$$(../venv/bin/gcr refine 'a red circle' --rounds 1)"

docs: .venv/installed  ## docs/options.md anew, from the command line
	$(BIN)/python docs/options.py

gallery: .venv/installed  ## docs/gallery.md and its images anew
	$(BIN)/python docs/pictures.py gallery

screenshots: .venv/installed  ## docs/images anew: terminal and pages; needs tmux and Chromium
	$(BIN)/python docs/pictures.py screenshots

pocket: .venv/installed  ## train the embedded pair anew, all stages; says how long each took and takes
	$(BIN)/python -m pocket_training all

acuity: .venv/installed  ## what the embedded critic sees, attribute by attribute
	$(BIN)/python -m benchmarks.acuity

bench: .venv/installed  ## raw, best-of-8 and refined images of the embedded pair, by truth
	$(BIN)/python -m benchmarks.refinement

headline: .venv/installed  ## the figures of README.md anew, for the weights that are shipped
	$(BIN)/python -m benchmarks.headline

asking: .venv/installed  ## checklists, comparisons, re-asks, objections and history: with each and without
	$(BIN)/python -m benchmarks.asking

averaging: .venv/installed  ## one judgement of an image against the mean of several, by truth
	$(BIN)/python -m benchmarks.strategies averaging

report-card: .venv/installed  ## the embedded critic against truth: unquantized, in 4 bits, four judges
	$(BIN)/python -m benchmarks.labels build/labels
	$(BIN)/gcr calibrate --pairs build/labels --quantize-critic none
	$(BIN)/gcr calibrate --pairs build/labels
	$(BIN)/gcr calibrate --pairs build/labels --judges 4

null: .venv/installed  ## how often a comparison is wrong where there is nothing to find
	$(BIN)/python -m benchmarks.null

help-time: .venv/installed  ## gcr --help against importing its two libraries
	$(BIN)/python -m benchmarks.timing help

batch-figures: .venv/installed  ## kills, memory, time per prompt and throughput of batches
	PYTHONPATH=tests/support:tests/engine $(BIN)/python -m benchmarks.batch_figures

overlap-time: .venv/installed  ## a batch that draws while a server judges, and one that does not
	PYTHONPATH=tests/support $(BIN)/python -m benchmarks.timing overlap

ray-time: .venv/with-ray  ## 40 requests on two workers of Ray, and in one process
	$(BIN)/python -m benchmarks.timing ray

reliability: .venv/with-ray  ## attempts to break the tool, counted; each kind within its part of an hour
	$(BIN)/python -m benchmarks.reliability

audit:  ## known holes in what constraints.txt pins; asks PyPI's database, so it needs a network
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit
	build/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	touch $@

.venv/with-ray: .venv/installed
	$(BIN)/python -m pip install --quiet -e '.[ray]' -c constraints.txt
	touch $@
