#!/bin/sh
# oneword selftest: the published hash of the reference run, for any number of threads and on every instruction set.
. tests/shell.sh

published=$(grep -oE '^[0-9a-f]{64}' testdata/world/selftest.sha256)
check "the published hash" test ${#published} = 64
hash() { # hash NAME OPTIONS...
    isa_or_threads=$1
    shift
    status "selftest $isa_or_threads" '0|4' "$O" selftest "$@"
    [ "$got" = 4 ] || check "selftest $isa_or_threads: $(tail -n 1 "$T/out")" test "$(tail -n 1 "$T/out")" = "$published"
    [ "$got" = 0 ] || check "selftest $isa_or_threads: no hash where the machine lacks it" test ! -s "$T/out"
}
for n in 1 2 3 7; do hash "on $n threads" --threads $n; done
for isa in scalar avx2 avx512 neon; do hash $isa --isa $isa; done
status "selftest of an unknown instruction set" 2 "$O" selftest --isa sse9
finish
