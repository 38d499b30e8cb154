# `make help` says what there is. Everything that is made lies in git-ignored folders here and in ~/.cache/gpufleet.

SHELL := /bin/bash
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
INVENTORY ?= inventories/demo
SCENARIO ?= test_hosts
LINK := .ansible/collections/ansible_collections/gpufleet/serving
HOSTS := ansible-playbook -i tests/hosts/inventory -i inventories/demo

export PATH := $(CURDIR)/tests/hosts/bin:$(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo demo-down test check lint unit accuracy plan soak bench molecule model link engine-locks lock venv clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: link venv model ## three systemd hosts here, the real engine on CPU, a streamed answer through TLS
	@tests/hosts/prerequisites
	@tests/demo/run

demo-down: venv ## take the demo away again
	@$(HOSTS) tests/hosts/destroy.yml
	@rm -rf inventories/demo/.secrets tests/model/tiny plan.json plan.md preflight.json

test: link venv ## everything that can be proven without a GPU; what CI runs
	@.venv/bin/python tests/lanes/suites.py test

check: link venv ## lint and unit tests, for every commit
	@.venv/bin/python tests/lanes/suites.py check

lint: link venv ## every linter over the whole tree
	@.venv/bin/python tests/lanes/suites.py lint

unit: link venv ## the unit tests
	@.venv/bin/python tests/lanes/suites.py unit

soak: link venv ## what takes too long for every change; by hand
	@.venv/bin/python tests/lanes/suites.py soak

bench: link venv ## how long plans take as fleets grow
	@PYTHONPATH=.ansible/collections .venv/bin/python tests/bench/plan_bench.py

molecule: link venv ## one scenario: SCENARIO=gateway
	@tests/lanes/molecule test -s $(SCENARIO)

accuracy: ## hold the planner against real start-ups and benchmarks: LOGS=, THROUGHPUT=, MODELS=, JSON=
	@$(PYTHON) tests/accuracy $(if $(LOGS),--logs "$(LOGS)") $(if $(THROUGHPUT),--throughput "$(THROUGHPUT)") \
	  $(if $(MODELS),--models "$(MODELS)") $(if $(JSON),--json "$(JSON)")

plan: link venv model ## plan an inventory and show the plan; changes no host: INVENTORY=inventories/mine
	@ansible-playbook -i $(INVENTORY) playbooks/plan.yml

link: ## make the collection's name resolve in this checkout
	@mkdir -p $(dir $(LINK))
	@[ "$$(readlink $(LINK))" = $(CURDIR) ] || ln -sfn $(CURDIR) $(LINK)

model: ## the tiny model that the demo and the tests serve: 2.5 million random weights
	@$(PYTHON) tests/model/make_tiny_model.py tests/model/tiny >/dev/null

venv: ## the lanes' Python environment in .venv, from the hashed lock
	@tests/hosts/prerequisites venv
	@tests/lanes/venv .venv requirements/core-2.19.txt $(PYTHON)

engine-locks: venv ## resolve the engines' packages anew: UPGRADE=1 takes the newest
	@.venv/bin/python tests/engine/make_locks.py $(if $(UPGRADE),--upgrade) $(if $(SOURCES),-- $(SOURCES))

lock: venv ## resolve the lanes' Python packages anew
	@for lock in 2.19:3.11 2.21:3.12; do \
	  uv pip compile -q --upgrade --universal --python-version $${lock#*:} --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-annotate --custom-compile-command 'make lock' \
	    -o requirements/core-$${lock%:*}.txt requirements/core-$${lock%:*}.in || exit; \
	done

clean: ## forget every cache: environments, the test hosts' image and network, fetched wheels
	@-podman rmi $$(podman images -q localhost/gpufleet-test-host) 2>/dev/null
	@-podman network rm gpufleet 2>/dev/null
	@rm -rf .venv .venvs .cache .ansible ~/.cache/gpufleet
