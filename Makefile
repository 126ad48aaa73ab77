# The commands of the README. Each installs what it lacks, builds what changed, and stops at the first failure.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

JOBS ?= $(shell nproc)
LIB := _build/default/lib/erlang_python
# Python programs that the tests start, and the packages the demo and the tests use.
export EP_TEST_PYTHON := $(CURDIR)/.venv/bin/python
# Erlang's own files are UTF-8; a bare machine has no locale.
export LANG := C.UTF-8

help:
	@echo 'make build       the NIF, the programs and the Erlang application'
	@echo 'make demo        a tour of the library; make example NAME=.. another one of examples/'
	@echo 'make test        all tests: C (plain, ASan and UBSan, TSan), Common Test'
	@echo 'make test-libraries  real libraries from the package index: pandas, scipy, polars ..'
	@echo 'make evil        a worker that lies, for SECONDS, from SEED'
	@echo 'make fuzz        what reads the bytes of the other side, for SECONDS'
	@echo 'make chaos       faults by KILLS and SEED, every answer checked; also crashpoints, vmkill N=.., soak MINUTES=..'
	@echo 'make test-deep   the tests, models, mutants, chaos, lies and fuzzing at length'
	@echo 'make mutants     one ordering step at a time taken away: a test has to notice'
	@echo 'make check       format, linters, types, xref, dialyzer'
	@echo 'make bench       measures everything, beside floors and a port; docs/performance.md has the parts'
	@echo 'make bench-call  what a call costs'
	@echo 'make bench-parallel  what several contexts gain'
	@echo 'make bench-micro ring, wake-ups, codec and slab alone'
	@echo 'make bench-pair A=dir B=dir  two builds in turns, their ratios and how sure those are'
	@echo 'make bench-report  a page with charts from what make bench wrote'
	@echo 'make flame       a flame graph of Erlang, C and Python'
	@echo 'make clean       removes what was built; .venv stays'
	@echo 'PYTHON=/path/to/python makes any of them use that Python, and those after it too'

build: setup-build
	rebar3 compile

demo:
	@$(MAKE) example NAME=demo

# Those of examples/ that are one file.
NAME ?= demo
example: build venv
	mkdir -p _build/examples
	erlc -Werror -pa $(LIB)/ebin -o _build/examples examples/$(NAME).erl
	erl -noshell -pa $(LIB)/ebin -pa _build/examples -eval '$(NAME):main(), halt().'

test: setup-test build venv test-c test-fuzz test-erl test-perf test-evil test-chaos

# What make test samples, whole: two to three hours. The suites know by EP_TEST_DEEP that they have time.
test-deep: export EP_TEST_DEEP := 1
test-deep: test test-leaks test-libraries verify-models mutants test-nif-deep test-chaos-deep
	$(MAKE) evil SECONDS=120
	$(MAKE) fuzz SECONDS=3600

check: setup-check build check-format check-c check-arrows check-python check-erl check-count

# --- C --------------------------------------------------------------------------------------------------------------

# $(call ctest,TREE,OPTIONS,PREFIX): builds the tests in _build/TREE and runs them.
define ctest
	@echo '== C tests: $(1)'
	scripts/configure.sh _build/$(1) -DEP_TESTS=ON $(2)
	cmake --build _build/$(1) -j $(JOBS) -- --quiet
	$(3) ctest --test-dir _build/$(1) --output-on-failure --no-tests=error
endef

# ThreadSanitizer of older compilers cannot start where the kernel places libraries too randomly.
FIXED_ADDRESSES := $(shell setarch -R true 2>/dev/null && echo setarch -R)
# Variables, for a comma would end the argument of call.
ASAN := -DEP_SANITIZE=address,undefined
TSAN := -DEP_SANITIZE=thread

test-c:
	$(call ctest,test)
	$(call ctest,asan,$(ASAN))
	$(call ctest,tsan,$(TSAN),$(FIXED_ADDRESSES))

# The call table walked farther, and the NIF's threads for longer, SEED included.
test-nif-deep: test-c
	EP_WALK_STEPS=6 _build/asan/ep_nif_walk_test
	EP_STRESS_CALLS=20000 $(FIXED_ADDRESSES) _build/tsan/ep_nif_stress_test

C_FILES = $(wildcard $(addsuffix /*.[ch],transport service/launcher service/python service/sandbox service/worker nif nif/* perf tests/chaos tests/evil tests/evil/timed tests/fuzz tests/c) tests/c/*.cc perf/*.cc)

check-format:
	clang-format --dry-run -Werror $(C_FILES)

# cppcheck takes the address of a variable for a read of it, and forgets _Noreturn from file to file; the compilers and clang-tidy find the real ones.
CPPCHECK := cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability --std=c11 \
    --suppress=missingIncludeSystem --suppress=uninitvar --suppress=ctuuninitvar --suppress=ctunullpointer -I transport -I service/python

check-c:
	printf '%s\n' $(filter %.c,$(filter-out tests/chaos/% tests/fuzz/% tests/c/%,$(C_FILES))) | xargs -P $(JOBS) -n 1 clang-tidy --quiet \
	    --extra-arg=-Wno-ignored-optimization-argument -p _build/cmake
	$(CPPCHECK) $(filter %.c,$(filter-out tests/%,$(C_FILES)))

# The path of a call in the VM takes no more instructions than recorded.
COUNT_PATH := _build/cmake/perf/count_path
count-path: build
	@cmake --build _build/cmake --target count_path >/dev/null

check-count: count-path
	python3 perf/count_instructions.py $(COUNT_PATH)

count-record: count-path
	python3 perf/count_instructions.py $(COUNT_PATH) --record

# --- Erlang ---------------------------------------------------------------------------------------------------------

SUITES := _build/erl_tests
ERL_TEST_FILES = $(wildcard tests/erl/*.erl) perf/bench_ratio.erl perf/bench_row.erl

# All the models; the tests of the C modules run the quick part.
verify-models: setup-test
	tests/model/run.sh

# What order, interrupts and the ends of calls depend on, one step at a time taken away: a test has to notice.
mutants: setup-test build
	tests/model/mutants.sh

# test-erl with a look, after each case, at what it has left behind. The VM keeps no memory that it has freed.
test-leaks:
	ERL_AFLAGS='+MMmcs 0' $(MAKE) test-erl CT_HOOKS='-ct_hooks py_leak_hook'

# The suites are compiled apart, so that no build result lies among the sources; with them what they test of perf/.
test-erl: build venv
	@echo '== Erlang tests'
	@rm -rf $(SUITES) && mkdir -p $(SUITES) _build/ct_logs
	erlc +debug_info -Werror -pa $(LIB)/ebin -I tests/erl -o $(SUITES) $(ERL_TEST_FILES)
	@for data in tests/erl/*_data; do [ ! -d $$data ] || ln -s ../../$$data $(SUITES); done
	ct_run -sname ep_ct_$$$$ -noshell -no_auto_compile -dir $(SUITES) -logdir _build/ct_logs -pa $(CURDIR)/$(LIB)/ebin \
	    -pa $(CURDIR)/$(SUITES) $(CT_HOOKS) || { scripts/failed_cases.sh _build/ct_logs; exit 1; }

# Real libraries from the package index, in a virtual environment of their own; test-erl has some of it.
LIBRARIES := _build/libraries
test-libraries: setup-test setup-venv build
	@echo '== Erlang tests: libraries'
	@scripts/libraries.sh
	@mkdir -p $(SUITES) _build/ct_logs
	erlc +debug_info -Werror -pa $(LIB)/ebin -I tests/erl -o $(SUITES) \
	    $(addprefix tests/erl/,py_test.erl py_fixture.erl py_pace.erl py_libraries_SUITE.erl)
	EP_LIBRARIES=all EP_TEST_PYTHON=$(CURDIR)/$(LIBRARIES)/bin/python ct_run -sname ep_ct_$$$$ -noshell -no_auto_compile \
	    -dir $(SUITES) -suite py_libraries_SUITE -logdir _build/ct_logs -pa $(CURDIR)/$(LIB)/ebin \
	    || { scripts/failed_cases.sh _build/ct_logs; exit 1; }

# A worker that lies, beside one that does not (tests/evil). SECONDS=once: each attack once. Each scheduler stays on its
# processor, whose heart says how long it ran (tests/evil/timed/evil_heart.h).
EVIL := _build/cmake/evil
EVIL_LIB := _build/evil_lib/erlang_python
evil fuzz: SECONDS ?= 120
SEED ?= 1
EVIL_OPTIONS ?= rows
evil-build: build
	@cmake --build _build/cmake --target evil_worker py_nif_timed -- --quiet
	@rm -rf $(EVIL_LIB) _build/evil && mkdir -p $(EVIL_LIB)/priv _build/evil
	@cp -r $(LIB)/ebin $(EVIL_LIB)/ebin
	@ln -s $(addprefix $(CURDIR)/priv/,ep_launcher ep_worker python python_version) \
	    $(CURDIR)/$(EVIL)/py_nif.so $(EVIL_LIB)/priv
	erlc -Werror +debug_info -pa $(LIB)/ebin -o _build/evil tests/evil/*.erl

evil: evil-build
	@echo '== A worker that lies: SECONDS=$(SECONDS) SEED=$(SEED)'
	rm -f _build/evil/times
	EVIL_TIMES=_build/evil/times erl -noshell -pa $(EVIL_LIB)/ebin -pa _build/evil \
	    -eval 'evil:main(init:get_plain_arguments())' \
	    -extra $(SECONDS) $(SEED) $(CURDIR)/$(EVIL)/evil_worker tests/evil/corpus/attacks.txt $(EVIL_OPTIONS)

test-evil:
	@$(MAKE) evil SECONDS=once EVIL_OPTIONS=

# Each target of tests/fuzz in turn, for its share of SECONDS. The corpus is replayed by test-c.
FUZZ := _build/fuzz
fuzz: setup-fuzz build fuzz-build
	@echo '== Fuzzing: SECONDS=$(SECONDS) SEED=$(SEED)'
	@tests/fuzz/run.sh $(FUZZ) $(SECONDS) $(SEED) $(basename $(notdir $(wildcard tests/fuzz/*_fuzz.c tests/fuzz/*_fuzz.cc)))

fuzz-build:
	@scripts/configure.sh $(FUZZ) -DEP_FUZZ=ON -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
	@cmake --build $(FUZZ) -j $(JOBS) --target ep_fuzzers -- --quiet

# A sample of it, 100,000 executions of each, where there is clang.
test-fuzz: build
ifneq ($(shell command -v clang),)
	@echo '== Fuzzing: a sample'
	@$(MAKE) fuzz-build
	ctest --test-dir $(FUZZ) --output-on-failure --no-tests=error
endif

# Which file uses which: arrows between rooms, and no circles.
check-arrows: build
	escript scripts/check_arrows.escript _build/cmake $(LIB)/ebin

check-erl:
	rebar3 xref
	rebar3 dialyzer
	rebar3 edoc

# The types that the package erlang has for editors and type checkers. A cache would lie in the sources.
check-python:
	MYPYPATH=service/python mypy --strict --python-version 3.11 --cache-dir=/dev/null service/python/erlang/__init__.pyi \
	    tests/py/typed_use.py

include tests/chaos/chaos.mk

# --- the rest -------------------------------------------------------------------------------------------------------

BENCH := _build/bench
BENCH_EBIN := _build/perf/ebin
# Schedulers that look for work a while take the CPU that a worker needs.
BENCH_ERL = ERL_LIBS=$(CURDIR)/_build/default/lib erl -noshell +sbwt none +sbwtdcpu none +sbwtdio none -pa $(BENCH_EBIN)

bench-ebin: build venv
	@mkdir -p $(BENCH_EBIN) $(BENCH)
	@cmake --build _build/cmake -j $(JOBS) --target ep_perf -- --quiet
	@erlc -Werror -pa $(LIB)/ebin -o $(BENCH_EBIN) perf/*.erl

# SECTIONS="latency payload" leaves the others out.
bench: bench-ebin
	$(BENCH_ERL) -eval 'bench:main(init:get_plain_arguments())' -extra --out $(BENCH)/bench.json $(SECTIONS)

bench-call: bench-ebin
	$(BENCH_ERL) -eval 'bench:main(init:get_plain_arguments())' -extra latency

bench-parallel: bench-ebin
	$(BENCH_ERL) -eval 'bench:main(init:get_plain_arguments())' -extra parallel

# FILTER=Ring runs those whose names match.
MICRO := _build/cmake_micro
FILTER ?= .
micro-build: setup-bench
	@scripts/configure.sh $(MICRO) -DEP_BENCH=ON
	cmake --build $(MICRO) -j $(JOBS) -- --quiet

bench-micro: micro-build
	@mkdir -p $(BENCH)
	for name in ring codec slab; do \
	    $(MICRO)/perf/$${name}_bench --benchmark_filter='$(FILTER)' --benchmark_min_time=0.2 \
	        --benchmark_out=$(BENCH)/micro_$$name.json --benchmark_out_format=json; \
	done

# FILES="old.json new.json" compares.
FILES ?= $(BENCH)/bench.json
bench-report:
	python3 perf/bench_report.py $(BENCH)/report.html $(FILES)

# The build for this very machine, as an application of its own.
PERF_LIB := _build/perf_lib/erlang_python
perf-build: build
	@scripts/configure.sh _build/cmake_perf -DPERF_BUILD=ON -DEP_PRIV_DIR=$(CURDIR)/$(PERF_LIB)/priv
	cmake --build _build/cmake_perf -j $(JOBS) -- --quiet
	@rm -rf $(PERF_LIB)/ebin && cp -r $(LIB)/ebin $(PERF_LIB)/ebin

# Conversions stay exact in that build, and it changes nobody's floating-point mode. The micro benchmarks only have to
# build.
test-perf: setup-test perf-build micro-build
	@echo '== Erlang tests: PERF_BUILD'
	@mkdir -p $(SUITES) _build/ct_logs
	erlc +debug_info -Werror -pa $(LIB)/ebin -I tests/erl -o $(SUITES) \
	    tests/erl/py_test.erl tests/erl/py_float_SUITE.erl tests/erl/py_convert_SUITE.erl
	ct_run -sname ep_ct_$$$$ -noshell -no_auto_compile -dir $(SUITES) -suite py_float_SUITE py_convert_SUITE \
	    -logdir _build/ct_logs -pa $(CURDIR)/$(PERF_LIB)/ebin
	@echo '== make bench-pair: each kind of row'
	$(MAKE) bench-pair A=. B=$(dir $(PERF_LIB)) PAIRS=2 ROWS="one thread 8x2-default ping"

# A and B are checkouts, or directories with an application erlang_python, such as $(dir $(PERF_LIB)). ROWS="one eval"
# leaves the others out. SECONDS per row (10), or PAIRS of bursts; SEED (1) of their order and of the interval. What
# runs in the VM that makes the calls is compiled with each of the two builds.
PAIR := _build/pair
PAIR_CALLER := $(patsubst %,perf/bench_%.erl,turn row callers ping app result)
PAIR_CONDUCTOR := $(patsubst %,perf/bench_%.erl,pair side row ratio table)
pair_ebin = $(abspath $(firstword $(wildcard $(1)/erlang_python/ebin) $(1)/_build/default/lib/erlang_python/ebin))

# $(call pair_side,NAME,DIR)
define pair_side
	@[ -f $(call pair_ebin,$(2))/py.beam ] || $(MAKE) -C $(2) build
	@mkdir -p $(PAIR)/$(1)
	@erlc -Werror -pa $(call pair_ebin,$(2)) -o $(PAIR)/$(1) $(PAIR_CALLER)
endef

bench-pair: setup-build
	@[ -n '$(A)' ] && [ -n '$(B)' ] || { echo 'make bench-pair A=dir B=dir: which two builds?' >&2; exit 2; }
	@rm -rf $(PAIR) && mkdir -p $(PAIR)/ebin
	$(call pair_side,A,$(A))
	$(call pair_side,B,$(B))
	@erlc -Werror -o $(PAIR)/ebin $(PAIR_CONDUCTOR)
	@ERL_CRASH_DUMP_SECONDS=0 erl -noshell +sbwt none +sbwtdcpu none +sbwtdio none -pa $(PAIR)/ebin \
	    -eval 'bench_pair:main(init:get_plain_arguments())' -extra --seed $(or $(SEED),1) \
	    $(if $(PAIRS),--pairs $(PAIRS),--seconds $(or $(SECONDS),10)) \
	    $(A) $(call pair_ebin,$(A)) $(PAIR)/A $(B) $(call pair_ebin,$(B)) $(PAIR)/B $(ROWS)

# A build with frame pointers, in a directory of its own.
FLAME_LIB := _build/flame_lib/erlang_python
flame: setup-flame bench-ebin
	@scripts/configure.sh _build/cmake_flame -DEP_PRIV_DIR=$(CURDIR)/$(FLAME_LIB)/priv \
	    -DEP_LTO=OFF -DCMAKE_C_FLAGS='-fno-omit-frame-pointer -fno-optimize-sibling-calls'
	cmake --build _build/cmake_flame -j $(JOBS) -- --quiet
	@rm -rf $(FLAME_LIB)/ebin && cp -r $(LIB)/ebin $(FLAME_LIB)/ebin
	@mkdir -p $(BENCH)
	perf/flame.sh $(BENCH)/flame.html

setup-%:
	@scripts/setup.sh $*

venv: setup-venv build
	@scripts/venv.sh

clean:
	rm -rf _build priv

.PHONY: help build demo example test test-deep test-leaks test-libraries verify-models mutants check test-c check-format check-c check-python test-erl check-erl count-path check-count count-record venv clean
.PHONY: bench-ebin bench micro-build bench-call bench-parallel bench-micro bench-pair bench-report flame perf-build test-perf
.PHONY: evil-build evil test-evil fuzz fuzz-build test-fuzz test-nif-deep
# One step after the other: each already uses all processors.
.NOTPARALLEL:
