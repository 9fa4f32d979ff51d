#!/bin/sh
# Runs every test program and every tests/cli_*.sh, adds up their counts, closes on one line: N passed, N failed.
# Each prints, last, "NAME: P passed, F failed"; one that dies without that line counts as a failure. FAST=1 stops at the first that
# fails.
B=${B:-build}
# Waiting threads soon sleep, as the program has it: the tests share the machine with whatever else runs on it.
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-50000}
export OMP_WAIT_POLICY GOMP_SPINCOUNT
passed=0 failed=0
for t in "$B"/tests/test_* tests/cli_*.sh; do
    case $t in *.o | *.d | *'*'*) continue ;; *.sh) run="sh $t" ;; *) run=$t ;; esac
    start=$(date +%s)
    out=$(B=$B $run 2>&1 </dev/null)
    line=$(printf '%s\n' "$out" | tail -n 1)
    p=$(printf '%s\n' "$line" | sed -n 's/^.*: \([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1/p')
    f=$(printf '%s\n' "$line" | sed -n 's/^.*: \([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\2/p')
    if [ -z "$p" ]; then
        printf '%s\n' "$out" | tail -n 20
        p=0 f=1 line="$(basename "$t"): died"
    elif [ "$f" != 0 ]; then
        printf '%s\n' "$out" | tail -n 60
    fi
    echo "$line ($(($(date +%s) - start)) s)"
    passed=$((passed + p)) failed=$((failed + f))
    [ -n "$FAST" ] && [ "$f" != 0 ] && break
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
