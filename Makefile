# consulfed: demo · test · screenshots · lint · drill · bench · jupyter · clean. Everything lives in .venv; nothing is done twice.
PYTHON ?= python3
BIN := .venv/bin
PARAMS ?= params/sandbox.yaml
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := demo
.PHONY: demo test screenshots lint drill bench jupyter clean

# Two clusters and the five notebooks. A sandbox that is up already is used, and stays up.
demo: .venv/ready
	@up=$$($(BIN)/consulfed sandbox kubeconfig 2>/dev/null); \
	$(BIN)/consulfed sandbox up && $(BIN)/consulfed run params/sandbox.yaml --apply; code=$$?; \
	[ -n "$$up" ] || $(BIN)/consulfed sandbox down; exit $$code

# A file's tests stay together, so that a sandbox that they share comes up once.
test: lint
	$(BIN)/python -m tests.browser.chromium
	$(BIN)/pytest -n 3 --dist loadfile

# The README's pictures, by the same run that tests JupyterLab in a browser.
screenshots: .venv/ready
	$(BIN)/python -m tests.browser.chromium
	CONSULFED_SCREENSHOTS=1 $(BIN)/pytest tests/browser

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Every fault that a sandbox can have, each named by the right check and nothing else; twelve minutes.
drill: .venv/ready
	$(BIN)/consulfed drill

# The page's procedure by hand (helm and kubectl) against `consulfed run --apply`, in turns; then what verifying costs.
bench: .venv/ready
	$(BIN)/python -m tests.bench

# JupyterLab at the notebooks; the sandbox with it, if these parameters name it.
jupyter: .venv/ready
	$(BIN)/consulfed jupyter --params $(PARAMS)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache consulfed.egg-info

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON) must be Python 3.11 or newer with venv (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sandbox,test]'
	$(BIN)/consulfed sandbox tools --link $(BIN)
	@git config core.hooksPath >/dev/null 2>&1 || git config core.hooksPath .ci/hooks || true # strips notebooks
	@touch $@
