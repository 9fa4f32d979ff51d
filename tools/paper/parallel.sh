#!/bin/sh
# The run by GNU parallel: tools/paper/parallel.sh N DIR [options of oneword paper], in N shards of one thread each.
# PARALLEL="--sshloginfile hosts --workdir ." takes it to other machines that see DIR under the same name.
n=$1 dir=$2 && shift 2
seq "$n" | parallel --retries 2 "${ONEWORD:-build/oneword}" paper "$@" -q -t 1 -o "$dir" --shard "{}/$n" &&
    exec "${ONEWORD:-build/oneword}" paper "$@" -o "$dir"
