# Moorage on one machine. Needs git, make and Python from 3.11 on; everything else is fetched.
# The state folder is MOORAGE_HOME, else /var/lib/moorage as root, else .moorage here.

PYTHON ?= python3
BOOTSTRAP = PYTHONDONTWRITEBYTECODE=1 exec $(PYTHON) -m bootstrap

.PHONY: up down link user setup test faults kube-up kube-down images lock chart-schema

up:  ## Set everything up and start Moorage; Ctrl-C stops it, notebooks and clusters go on
	@$(BOOTSTRAP) up

down:  ## Stop everything, notebooks and clusters too
	@$(BOOTSTRAP) down

link:  ## Make a new one-time login link
	@$(BOOTSTRAP) link

user:  ## The built-in list of users: make user ARGS="add ada", or list, password NAME, remove NAME
	@$(BOOTSTRAP) user $(ARGS)

setup:  ## Set everything up, start nothing
	@$(BOOTSTRAP) setup

test:  ## Lint, types, import contracts and all tests; those on a Kubernetes node with MOORAGE_KUBE=1 (CONTRIBUTING.md)
	@$(BOOTSTRAP) test $(TESTS)

faults:  ## The fault tests at their real durations, and their figures; some of them: make faults FAULTS="1 2 8"
	@$(BOOTSTRAP) faults $(FAULTS) $(TESTS)

kube-up:  ## As root: a Kubernetes node on this machine with Moorage on it, and a login link; minutes the first time; after `make test`
	@.venv/bin/python -m tests.kube moorage

kube-down:  ## Nothing of that node is left
	@.venv/bin/python -m tests.kube down

images:  ## Container images of hub and service (one), notebook and proxy: make images BASE=debian-with-python PUSH=registry/prefix
	@$(BOOTSTRAP) images BASE=$(BASE) PUSH=$(PUSH)

lock:  ## Make the locks anew
	@$(BOOTSTRAP) lock

chart-schema:  ## Write the Helm chart's values.yaml, values.schema.json and table of values anew from its schema.yaml; after `make test`
	@.venv/bin/python -m helm.write_schema
