# The run by make: make -j8 -f tools/paper/shards.mk N=64 DIR=build/paper OPTIONS=--quick
# A process a core, one thread each; several shards a core, so that cores end together; the last process writes the report.
ONEWORD ?= build/oneword
N ?= 16
DIR ?= build/paper

.PHONY: report $(addprefix shard-,$(shell seq $(N)))
report: $(addprefix shard-,$(shell seq $(N)))
	$(ONEWORD) paper $(OPTIONS) -o $(DIR)

$(addprefix shard-,$(shell seq $(N))): shard-%:
	$(ONEWORD) paper $(OPTIONS) -t 1 -o $(DIR) --shard $*/$(N)
