# make help lists the targets. Each sets up .venv by itself: Python 3.11 and nothing else is needed.
PYTHON ?= python3.11
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
REAL_DATA ?= $(FEDILD_REAL_DATA)

.PHONY: help setup demo demo-seeds federation-demo chaos soak test test-deployment test-zoo check bench bench-ct bench-federation bench-privacy bench-strategies bench-survival bench-hostile heart-table privacy-table zoo zoo-patches audit lock sbom wheel bench-aggregate bench-gpu bench-predict bench-coverage bench-fusion bench-adaptation bench-pattern-maps docs docs-check clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: .venv/ready ## make .venv from the pinned constraints

.venv/ready: pyproject.toml constraints.txt
	command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,lint]"
	touch $@

demo: .venv/ready ## run the main job on five phantom hospitals; ends with the path of the report
	rm -rf runs/demo
	$(BIN)/fedild simulate fibrosis --out runs/demo

demo-seeds: .venv/ready ## run the main job with seeds 0, 1, 2 and print the figures
	$(BIN)/python -m bench.seeds

federation-demo: .venv/ready ## a server and three hospitals as separate processes with keys and TLS; ends with the path of the report
	rm -rf runs/federation
	$(BIN)/fedild federation-demo --out runs/federation

zoo: .venv/ready ## federate every system of the survey over phantoms, ask what it must do to count as working; ends with the path of the page
	$(BIN)/fedild zoo --out runs/zoo

chaos: .venv/ready ## 20 runs over real processes, each with a SIGKILL at a random moment; seeds printed
	$(BIN)/python -m tests.soak.chaos --runs 20 --kills 1

soak: .venv/ready ## half an hour of faults of every kind over real processes, and a network cut of five minutes; seed printed
	$(BIN)/python -m pytest -m soak -s

test: .venv/ready ## run the suite
	$(BIN)/python -m pytest -n 2

test-deployment: .venv/ready ## tests with whole deployments: real processes on loopback, some minutes
	$(BIN)/python -m pytest -m deployment

test-zoo: .venv/ready ## the slow half of the batteries over all models
	$(BIN)/python -m pytest -m zoo

check: .venv/ready ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error
	$(BIN)/python -m pytest -n 0 tests/test_architecture.py

bench: .venv/ready ## measure: interleaved runs, ratios with spread
	$(BIN)/python -m bench.federation
	$(BIN)/python -m bench.aggregation --parameters 7000000 --only fedavg
	$(BIN)/python -m bench.studies
	$(BIN)/python -m bench.secure_sum

lock: .venv/ready ## write requirements.lock: the versions of constraints.txt with the hash of every file
	$(BIN)/python -m deploy.lock

sbom: .venv/ready ## write sbom.json: the parts list of what a hospital installs (CycloneDX 1.6)
	$(BIN)/python -m deploy.sbom

wheel: .venv/ready ## build the wheel twice and compare; leaves it in dist/
	$(BIN)/python -m deploy.wheel

bench-survival: .venv/ready ## measure the federated Cox fit against lifelines on all patients in one place, what a site's bias does to it, and what later visits add
	$(BIN)/python -m bench.survival
	$(BIN)/python -m bench.site_bias
	$(BIN)/python -m bench.planted
	$(BIN)/python -m bench.visits --seeds 10

bench-coverage: .venv/ready ## of 2,000 simulated data sets, in how many every printed interval holds the truth
	$(BIN)/python -m bench.coverage

bench-aggregate: .venv/ready ## measure every strategy's aggregation for 7, 25 and 100 million parameters of 4, 16 and 64 sites (about an hour)
	$(BIN)/python -m bench.aggregation

bench-privacy: .venv/ready ## measure a step under differential privacy over a plain step, for each network family
	$(BIN)/python -m bench.privacy

privacy-table: .venv/ready ## accuracy without privacy and at epsilon 8, 4, 1: on the heart table (needs REAL_DATA), beside a published grid, and on the demo's phantoms
	FEDILD_REAL_DATA=$(REAL_DATA) $(BIN)/python -m bench.heart_privacy --plot docs/heart_privacy.svg
	$(BIN)/python -m bench.demo_privacy

heart-table: .venv/ready ## the published table of the heart data (needs REAL_DATA): strategies beside FLamby's figures, and one tuned on training patients alone
	FEDILD_REAL_DATA=$(REAL_DATA) $(BIN)/python -m bench.heart_table

bench-strategies: .venv/ready ## where strategies matter: phantoms under label skew and scanner shift, all methods on real patches (needs REAL_DATA)
	FEDILD_REAL_DATA=$(REAL_DATA) $(BIN)/python -m bench.strategies

bench-fusion: .venv/ready ## radiomics and attention network: each alone, fused in two ways; particle swarm beside random search (3 seeds on phantoms)
	$(BIN)/python -m bench.fusion_arms

bench-adaptation: .venv/ready ## pretraining against drawn weights with a tenth of the labels; LoRA and head alone against the whole network
	$(BIN)/python -m bench.adaptation

bench-pattern-maps: .venv/ready ## the published patch network as a sliding window over unseen phantoms: how much of each planted pattern it calls so
	$(BIN)/python -m bench.pattern_maps

bench-gpu: .venv/ready ## on a machine with a CUDA device: step time, peak memory and mixed precision of every system, and sites that share the card
	$(BIN)/python -m bench.gpu

zoo-patches: .venv/ready ## every patch-capable system federated over real HRCT patches (needs REAL_DATA): mean recall of 5 folds
	FEDILD_REAL_DATA=$(REAL_DATA) $(BIN)/python -m bench.zoo_patches

bench-hostile: .venv/ready ## one of five sites lies: turned-round updates and a backdoor, for each robust strategy, on real patches (needs REAL_DATA)
	FEDILD_REAL_DATA=$(REAL_DATA) $(BIN)/python -m bench.hostile

audit: .venv/ready ## canary audit of every trainer that claims privacy, and of each with every seeded bug; fails when one is missed
	$(BIN)/python -m bench.audit

bench-ct: .venv/ready ## measure: a CT series read over its raw bytes, a whole study over the plain MONAI + scikit-image way
	$(BIN)/python -m bench.ct
	$(BIN)/python -m bench.ct_steps

bench-predict: .venv/ready ## measure one prediction end to end: seconds, peak memory, and where the seconds go
	$(BIN)/python -m bench.predict

bench-federation: .venv/ready ## measure a deployment: memory, seconds and bytes of a round, a 250 MB model, 50 rounds on end (about half an hour)
	$(BIN)/python -m bench.deployment

docs: .venv/ready ## build the documentation's site with its generated pages; ends with the path of its first page
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo build/docs/index.html

docs-check: docs ## run every command, link and example of the pages, and read the site in a browser (some minutes)
	$(BIN)/python -m pytest -m "deployment or not deployment" tests/docs tests/test_tutorial.py tests/test_for_researchers.py

clean: ## remove what was made here
	rm -rf .venv runs build dist *.egg-info
