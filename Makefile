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
	@echo 'make demo        a tour of the library'
	@echo 'make test        all tests: C (plain, ASan and UBSan, TSan), Common Test, EUnit'
	@echo 'make check       format, linters, xref, dialyzer'
	@echo 'make bench       measures everything, beside floors and a port; docs/performance.md has the parts'
	@echo 'make bench-call  what a call costs'
	@echo 'make bench-parallel  what several contexts gain'
	@echo 'make bench-micro ring, wake-ups, codec and slab alone'
	@echo 'make bench-builds  the plain build against PERF_BUILD'
	@echo 'make bench-report  a page with charts from what make bench wrote'
	@echo 'make flame       a flame graph of Erlang, C and Python'
	@echo 'make clean       removes what was built; .venv stays'
	@echo 'PYTHON=/path/to/python makes any of them use that Python, and those after it too'

build: setup-build
	rebar3 compile

demo: build venv
	mkdir -p _build/examples
	erlc -Werror -pa $(LIB)/ebin -o _build/examples examples/demo.erl
	erl -noshell -pa $(LIB)/ebin -pa _build/examples -eval 'demo:main(), halt().'

test: setup-test build venv test-c test-erl test-perf

check: setup-check build check-format check-c check-erl check-count

# --- C --------------------------------------------------------------------------------------------------------------

# $(call ctest,TREE,OPTIONS,PREFIX): builds the tests in _build/TREE and runs them.
define ctest
	@echo '== C tests: $(1)'
	[ -f _build/$(1)/CMakeCache.txt ] || cmake -S . -B _build/$(1) -G Ninja -DEP_TESTS=ON $(2) >/dev/null
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

C_FILES = $(wildcard $(addsuffix /*.[ch],transport service nif perf) tests/c/*.cc tests/c/*.h perf/*.cc)

check-format:
	clang-format --dry-run -Werror $(C_FILES)

# cppcheck takes the address of a variable for a read of it, and forgets _Noreturn from file to file; the compilers and clang-tidy find the real ones.
CPPCHECK := cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability --std=c11 \
    --suppress=missingIncludeSystem --suppress=uninitvar --suppress=ctuuninitvar --suppress=ctunullpointer -I transport

check-c:
	printf '%s\n' $(filter %.c,$(C_FILES)) | xargs -P $(JOBS) -n 1 clang-tidy --quiet \
	    --extra-arg=-Wno-ignored-optimization-argument -p _build/cmake
	$(CPPCHECK) $(filter %.c,$(C_FILES))

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
ERL_TEST_FILES = $(wildcard tests/erl/*.erl)
EUNIT_MODULES = $(notdir $(basename $(wildcard tests/erl/*_tests.erl)))
EUNIT := Modules = [list_to_atom(M) || M <- init:get_plain_arguments()], \
    halt(case eunit:test(Modules) of ok -> 0; _ -> 1 end)

# The suites are compiled apart, so that no build result lies among the sources.
test-erl: build venv
	@echo '== Erlang tests'
	@rm -rf $(SUITES) && mkdir -p $(SUITES) _build/ct_logs
	erlc +debug_info -Werror -pa $(LIB)/ebin -I tests/erl -o $(SUITES) $(ERL_TEST_FILES)
	@for data in tests/erl/*_data; do [ ! -d $$data ] || ln -s ../../$$data $(SUITES); done
	ct_run -sname ep_ct_$$$$ -noshell -no_auto_compile -dir $(SUITES) -logdir _build/ct_logs -pa $(CURDIR)/$(LIB)/ebin
ifneq ($(EUNIT_MODULES),)
	erl -noshell -pa $(LIB)/ebin -pa $(SUITES) -eval '$(EUNIT).' -extra $(EUNIT_MODULES)
endif

check-erl:
	rebar3 xref
	rebar3 dialyzer

# --- the rest -------------------------------------------------------------------------------------------------------

BENCH := _build/bench
BENCH_EBIN := _build/perf/ebin
# Schedulers that look for work a while take the CPU that a worker needs.
BENCH_ERL = ERL_LIBS=$(CURDIR)/_build/default/lib erl -noshell +sbwt none +sbwtdcpu none +sbwtdio none -pa $(BENCH_EBIN)

bench-ebin: build venv
	@mkdir -p $(BENCH_EBIN) $(BENCH)
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
	@[ -f $(MICRO)/CMakeCache.txt ] || cmake -S . -B $(MICRO) -G Ninja -DEP_BENCH=ON >/dev/null
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
	@[ -f _build/cmake_perf/CMakeCache.txt ] || cmake -S . -B _build/cmake_perf -G Ninja -DPERF_BUILD=ON \
	    -DEP_PRIV_DIR=$(CURDIR)/$(PERF_LIB)/priv >/dev/null
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

BUILDS_ROUNDS ?= 3
bench-builds: bench-ebin perf-build
	$(BENCH_ERL) -eval 'bench_builds:main(init:get_plain_arguments())' -extra $(BUILDS_ROUNDS) $(BENCH) \
	    plain=_build/default/lib PERF_BUILD=_build/perf_lib latency throughput payload

# A build with frame pointers, in a directory of its own.
FLAME_LIB := _build/flame_lib/erlang_python
flame: setup-flame bench-ebin
	@[ -f _build/cmake_flame/CMakeCache.txt ] || cmake -S . -B _build/cmake_flame -G Ninja \
	    -DEP_PRIV_DIR=$(CURDIR)/$(FLAME_LIB)/priv \
	    -DEP_LTO=OFF -DCMAKE_C_FLAGS='-fno-omit-frame-pointer -fno-optimize-sibling-calls' >/dev/null
	cmake --build _build/cmake_flame -j $(JOBS) -- --quiet
	@rm -rf $(FLAME_LIB)/ebin && cp -r $(LIB)/ebin $(FLAME_LIB)/ebin
	@mkdir -p $(BENCH)
	perf/flame.sh $(BENCH)/flame.html

setup-%:
	@scripts/setup.sh $*

venv: build
	@scripts/venv.sh

clean:
	rm -rf _build priv

.PHONY: help build demo test check test-c check-format check-c test-erl check-erl count-path check-count count-record venv clean
.PHONY: bench-ebin bench micro-build bench-call bench-parallel bench-micro bench-builds bench-report flame perf-build test-perf
# One step after the other: each already uses all processors.
.NOTPARALLEL:
