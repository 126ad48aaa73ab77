# Storms of faults, included by the Makefile. Each target prints `N passed, N failed' and fails with the latter.

CHAOS := _build/chaos
# Schedulers that look for work a while take the CPU that a worker needs.
ERL_STORM = ERL_CRASH_DUMP=/dev/null erl -noshell +sbwt none +sbwtdcpu none +sbwtdio none -pa $(CHAOS)
CHAOS_ERL = ERL_LIBS=$(CURDIR)/_build/default/lib $(ERL_STORM)

chaos-ebin: build
	@mkdir -p $(CHAOS)
	@erlc +debug_info -Werror -pa $(LIB)/ebin -I tests/chaos -o $(CHAOS) tests/chaos/*.erl tests/erl/py_test.erl tests/erl/py_pace.erl

# FAULTS="kill stop" for some kinds only: chaos_nemesis:kinds/0.
KILLS ?= 100
SEED ?= 1
FAULTS ?=
CALLERS ?= 14
chaos: chaos-ebin
	@echo '== chaos: KILLS=$(KILLS) SEED=$(SEED) CALLERS=$(CALLERS) $(FAULTS)'
	@KILLS='$(KILLS)' SEED='$(SEED)' FAULTS='$(FAULTS)' CALLERS='$(CALLERS)' $(CHAOS_ERL) -eval 'chaos:main()'

# A worker that ends at named steps, in a tree of its own. PART=4: one case in four, others for another SEED. KINDS="import
# leave": of these kinds of request only.
CRASH_LIB := _build/crash_lib/erlang_python
PART ?= 1
KINDS ?=
crash-build: build
	@scripts/configure.sh _build/cmake_crash -DEP_CRASHPOINTS=ON -DEP_PRIV_DIR=$(CURDIR)/$(CRASH_LIB)/priv
	cmake --build _build/cmake_crash -j $(JOBS) --target ep_launcher ep_worker py_nif ep_python_files -- --quiet
	@rm -rf $(CRASH_LIB)/ebin && cp -r $(LIB)/ebin $(CRASH_LIB)/ebin

crashpoints: chaos-ebin crash-build
	@echo '== crash points: PART=$(PART) SEED=$(SEED)'
	@PART='$(PART)' SEED='$(SEED)' KINDS='$(KINDS)' EP_CRASH_PAGE=$(CURDIR)/$(CHAOS)/page.$$$$ \
	    ERL_LIBS=$(CURDIR)/_build/crash_lib $(ERL_STORM) -eval 'chaos_crashpoints:main()'

# SIGKILL of whole VMs.
N ?= 10
vmkill: chaos-ebin
	@echo '== vmkill: N=$(N)'
	@N='$(N)' $(CHAOS_ERL) -eval 'chaos_vmkill:main()'

MINUTES ?= 10
soak: chaos-ebin
	@echo '== soak: MINUTES=$(MINUTES) SEED=$(SEED)'
	@MINUTES='$(MINUTES)' SEED='$(SEED)' $(CHAOS_ERL) -eval 'chaos_soak:main()'

# What make test runs of it, and the whole for make test-deep.
test-chaos: setup-test chaos-ebin crash-build
	$(MAKE) chaos KILLS=100
	$(MAKE) crashpoints PART=12
	$(MAKE) vmkill N=3

test-chaos-deep: test-chaos
	$(MAKE) chaos KILLS=2000
	$(MAKE) chaos KILLS=1500 SEED=2 FAULTS='kill_in_callback stop_in_callback'
	$(MAKE) crashpoints PART=1
	$(MAKE) vmkill N=50
	$(MAKE) soak MINUTES=30

.PHONY: chaos chaos-ebin crash-build crashpoints vmkill soak test-chaos test-chaos-deep
