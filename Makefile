# run: a demo to play with; test: all tests; check: what CI checks. Nothing is installed outside VENV.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8080

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
INPUTS := pyproject.toml setup.cfg

.DEFAULT_GOAL := help
.PHONY: help run test soak soak-model check format lint types docs coverage clean

help:
	@echo "make run    start the demo: three toy models on http://127.0.0.1:$(PORT) (PORT=...)"
	@echo "make test   run all tests"
	@echo "make soak   chaos with real processes, and a judge (MINUTES=20, SEED=...)"
	@echo "make soak-model  play the models of router and supervisors at random (SECONDS=600, SEED=...)"
	@echo "make check  format, lint, types, documentation, tests, coverage: as CI does"
	@echo "make clean  remove what these made"

# One stamp for each step, so that a second run does not ask the package index again.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { rm -rf $(VENV); echo "No virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(INSTALL) --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.run: $(VENV)/.made $(INPUTS)
	@echo "installing into $(VENV) ..."
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "installing what the tests need ..."
	@$(INSTALL) --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@echo "installing what the checks need ..."
	@$(INSTALL) --group lint --group docs
	@touch $@

URL := http://127.0.0.1:$(PORT)
POST := curl -N $(URL)/v1/chat/completions -H 'Content-Type: application/json'

run: $(VENV)/.run
	@$(BIN)/python -m llamaswap.demo.config > $(VENV)/demo.yaml
	@echo
	@echo "Three toy models, small, large and coder, take turns at $(URL). In a second terminal, try:"
	@echo
	@echo "  curl $(URL)/v1/models"
	@echo "  $(POST) \\"
	@echo "    -d '{\"model\": \"small\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Tell me a story.\"}]}'"
	@echo "  curl $(URL)/running"
	@echo "  curl -N $(URL)/logs/stream"
	@echo
	@echo "Then ask for large, and watch small make room. Ctrl-C ends it."
	@echo
	@exec $(BIN)/llamaswap -config $(VENV)/demo.yaml -listen 127.0.0.1:$(PORT)

test: $(VENV)/.test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "" --hypothesis-profile=thorough

MINUTES ?= 20

soak: $(VENV)/.test
	$(BIN)/python -m tests.soak.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

SECONDS ?= 600

soak-model: $(VENV)/.test
	$(BIN)/python -m tests.soak.model --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

check: lint types docs test coverage

format: $(VENV)/.check
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lint: $(VENV)/.check
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(VENV)/.check
	$(BIN)/mypy

docs: $(VENV)/.check
	$(BIN)/sphinx-build --nitpicky --fail-on-warning --keep-going --quiet doc doc/_build/html

coverage: $(VENV)/.test
	$(BIN)/coverage report --include="llamaswap/core/*" --fail-under=100
	$(BIN)/coverage report --fail-under=90

clean:
	rm -rf $(VENV) build dist doc/_build doc/reference/generated .coverage .coverage.* *.egg-info
