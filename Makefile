# oneword: one Makefile, no configure step (GNU make 3.81 suffices). `make help` lists the targets.
#
# Nothing is cleaned to switch: `make B=build/NAME CC=clang OPENMP=0` keeps a configuration of its own beside the default one in
# build/; flags that change in place rebuild what they change (the stamp $(B)/config).

CC ?= cc
ifeq ($(origin CC),default)
CC := cc
endif
AR ?= ar
PREFIX ?= /usr/local
DESTDIR ?=
CFLAGS ?= -O2
LDFLAGS ?=
OPENMP ?= 1
B ?= build
PAPER_JOBS ?= 2

# -ffp-contract=off: one hash on every machine; each fused multiply-add is written as one.
STD := -std=c99 -pedantic -D_POSIX_C_SOURCE=200809L
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
ALL_CFLAGS := $(STD) $(WARN) -ffp-contract=off -I. $(CFLAGS)

# OpenMP where the compiler has it, asked by compiling a line.
ifneq ($(OPENMP),0)
OMP_FLAG := $(shell printf '\043include <omp.h>\nint main(void){return omp_get_max_threads()<0;}' | \
	$(CC) -fopenmp -x c - -o /dev/null 2>/dev/null && echo -fopenmp)
endif
ALL_CFLAGS += $(OMP_FLAG)
LIBS := -lm

# Kernels are compiled once per instruction set the compiler can produce for the target.
TARGET := $(shell $(CC) $(CFLAGS) -dumpmachine 2>/dev/null)
ISAS := scalar
ifneq ($(filter x86_64%,$(TARGET)),)
ISAS += avx2 avx512
else ifneq ($(filter aarch64% arm64%,$(TARGET)),)
ISAS += neon
endif
ISA_FLAGS_scalar :=
ISA_FLAGS_avx2 := -mavx2 -mfma -mf16c
ISA_FLAGS_avx512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c
ISA_FLAGS_neon :=
ISA_DEFS := $(foreach i,$(ISAS),-DTN_HAVE_$(i))

# A file that changes when the configuration does; every object depends on it.
CONFIG := $(CC) $(ALL_CFLAGS) $(LDFLAGS)
ifeq ($(filter clean help uninstall,$(MAKECMDGOALS)),)
$(shell mkdir -p $(B); printf '%s\n' '$(subst ','\'',$(CONFIG))' | cmp -s - $(B)/config || printf '%s\n' '$(subst ','\'',$(CONFIG))' > $(B)/config)
endif

# Sources are listed sorted, so that a build does not depend on the order of a directory.
dirs = $(sort $(foreach d,$(1),$(wildcard $(d)/*.c)))
KERNEL_SRC := $(call dirs,tensor/kernel)
LIB_SRC := $(call dirs,ref tensor tensor/op tensor/io nn nn/model nn/image nn/text nn/edit nn/fit)
TOOL_SRC := $(call dirs,tools tools/paper)
TEST_SRC := $(sort $(wildcard tests/test_*.c))

KERNEL_OBJ := $(foreach i,$(ISAS),$(KERNEL_SRC:%.c=$(B)/obj/%.$(i).o))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/obj/%.o) $(KERNEL_OBJ)
TOOL_OBJ := $(TOOL_SRC:%.c=$(B)/obj/%.o)
TESTS := $(TEST_SRC:tests/%.c=$(B)/tests/%)

.PHONY: all demo paper test verify bench bench-peers fullsize sweep audit asan sabotage install uninstall clean help tests
all: $(B)/oneword $(B)/liboneword.a

$(B)/liboneword.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/oneword: $(TOOL_OBJ) $(B)/liboneword.a
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/obj/%.o: %.c $(B)/config
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ISA_DEFS) -MMD -MP -c -o $@ $<

define isa_rule
$(B)/obj/tensor/kernel/%.$(1).o: tensor/kernel/%.c $(B)/config
	@mkdir -p $$(@D)
	$$(CC) $$(ALL_CFLAGS) $$(KERNEL_CFLAGS) $$(ISA_FLAGS_$(1)) -DTN_ISA=$(1) -DTN_ISA_$(1) -MMD -MP -c -o $$@ $$<
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))

$(B)/tests/test_%: $(B)/obj/tests/test_%.o $(B)/obj/tests/test.o $(B)/obj/tests/op_cases.o $(B)/liboneword.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# Its allocator is a wrapper around libc's (tests/test_oom.c).
$(B)/tests/test_oom: LIBS := $(B)/liboneword.a $(LIBS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free
$(B)/tests/test_oom: $(B)/obj/tools/generate.o

$(B)/tests/test_memory: LIBS := $(B)/liboneword.a $(LIBS)
$(B)/tests/test_memory: $(B)/obj/tools/generate.o $(B)/obj/tools/memory.o

$(B)/tests/test_stats: LIBS := $(B)/liboneword.a $(LIBS)
$(B)/tests/test_stats: $(B)/obj/tools/stats.o

$(B)/tests/test_metadata: LIBS := $(B)/liboneword.a $(LIBS)
$(B)/tests/test_metadata: $(addprefix $(B)/obj/tools/,metadata.o metadata_json.o)

$(B)/tests/test_edit: LIBS := $(B)/liboneword.a $(LIBS)
$(B)/tests/test_edit: $(addprefix $(B)/obj/tools/,generate.o rank.o clip_score.o clip_cache.o)

# What the shell tests make their files with.
$(B)/tests/forge: $(B)/obj/tests/forge.o $(B)/liboneword.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

tests: $(TESTS) $(B)/tests/forge
.SECONDARY:

test: all tests
	@B=$(B) tests/run.sh

$(B)/tests/sweep: $(B)/obj/tests/sweep.o $(B)/liboneword.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# Learns a word, samples it, measures it: build/demo/report.html, build/demo/sheet.png.
demo: all
	$(B)/oneword demo -o $(B)/demo

# The experiments of the paper on the bundled world, twenty minutes: build/paper/report.html.
paper: all
	$(MAKE) -j$(PAPER_JOBS) -f tools/paper/shards.mk ONEWORD=$(B)/oneword DIR=$(B)/paper OPTIONS=--quick

# Minutes: every float through every elementwise kernel (tests/sweep.c).
sweep: $(B)/tests/sweep
	$<

# Golden cases in testdata/ through the program itself.
verify: all
	$(B)/oneword verify

# The bundled model, and the training of a toy model.
bench: all
	$(B)/oneword bench
	@[ -e $(B)/toy/model_index.json ] || $(B)/oneword init --like testdata/configs/toy -o $(B)/toy --dtype f32 -q
	$(B)/oneword bench --model $(B)/toy --only machine,train --batch 32 --tokens 16

# Beside PyTorch, OpenBLAS, BLIS and oneDNN, where they are installed; half an hour (tests/peers/README.md).
bench-peers: all
	@B=$(B) tests/peers/run.sh

# Numbers of a full-size model beside PyTorch's on the same random weights; a quarter of an hour.
fullsize: all
	@B=$(B) tests/peers/run.sh --fullsize

# Rules of the code that a machine can check: operators complete, sizes, forbidden calls, links in READMEs.
audit: all
	tests/audit.sh

# One-line mutations of the code, each of which `make test` must catch. Takes a while.
sabotage:
	tests/sabotage.sh

# The tests under the address and undefined-behaviour sanitizers, in a configuration of its own. The kernels go without the
# second one: gcc needs ten minutes for their unrolled plain-C form with both.
asan:
	$(MAKE) test B=build/asan OPENMP=0 CFLAGS="-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all" \
		LDFLAGS="-fsanitize=address,undefined" KERNEL_CFLAGS="-g0 -fno-sanitize=undefined"

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/share/oneword
	install -m 755 $(B)/oneword $(DESTDIR)$(PREFIX)/bin/oneword
	install -m 644 $(B)/liboneword.a $(DESTDIR)$(PREFIX)/lib/liboneword.a
	cp -R testdata/world $(DESTDIR)$(PREFIX)/share/oneword/

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/oneword $(DESTDIR)$(PREFIX)/lib/liboneword.a
	rm -rf $(DESTDIR)$(PREFIX)/share/oneword

help:
	@echo "make            build/oneword and build/liboneword.a"
	@echo "make demo       learn a word on the bundled model; build/demo/report.html and sheet.png"
	@echo "make paper      the paper's experiments, 20 minutes; build/paper/report.html"
	@echo "make test       every test; the last line is 'N passed, N failed'"
	@echo "make verify     every golden case in testdata/"
	@echo "make bench      kernels and whole models: time, GFLOP/s"
	@echo "make bench-peers, fullsize   beside PyTorch and BLAS libraries, where they are installed"
	@echo "make sweep      every float32 through every elementary function on every instruction set"
	@echo "make audit      rules of the code that a machine can check"
	@echo "make sabotage   mutations of the code, each of which the tests must catch"
	@echo "make asan       the tests under address and undefined-behaviour sanitizers"
	@echo "make install    to PREFIX (/usr/local), below DESTDIR; make uninstall takes it back"
	@echo "Variables: CC CFLAGS LDFLAGS PREFIX DESTDIR OPENMP=0 B=build/NAME PAPER_JOBS=2"

clean:
	rm -rf build

-include $(LIB_OBJ:.o=.d) $(TOOL_OBJ:.o=.d) $(TEST_SRC:%.c=$(B)/obj/%.d) $(B)/obj/tests/test.d $(B)/obj/tests/op_cases.d $(B)/obj/tests/sweep.d $(B)/obj/tests/forge.d
