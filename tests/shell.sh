# Sourced by tests/cli_*.sh: counting, and what every command must keep to. Runs from the top of the tree; POSIX sh.
B=${B:-build}
O=$B/oneword
F=$B/tests/forge
W=testdata/world
T=$B/test-tmp/$(basename "$0" .sh)
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-50000} # threads that wait soon sleep
export OMP_WAIT_POLICY GOMP_SPINCOUNT
rm -rf "$T" && mkdir -p "$T" || exit 2
passed=0 failed=0

ok() { passed=$((passed + 1)); }
fail() { # fail TEXT...
    failed=$((failed + 1))
    echo "    FAIL $*"
}
# check TEXT COMMAND...: the command must succeed
check() {
    what=$1
    shift
    if "$@" >"$T/check.out" 2>&1; then ok; else fail "$what: $(tail -n 2 "$T/check.out" | tr '\n' ' ')"; fi
}
# status NAME EXPECTED COMMAND...: the exit status must be EXPECTED ("3" or "2|3"). Where it is an error, stderr must say so: one
# line "oneword: error: ..." (warnings and notes before it), at most 6 lines, no control bytes, nothing of a sanitizer.
status() {
    name=$1 want=$2
    shift 2
    "$@" >"$T/out" 2>"$T/err" </dev/null
    got=$?
    case "|$want|" in
    *"|$got|"*) ;;
    *)
        fail "$name: exit $got, expected $want: $(tail -n 1 "$T/err" | cut -c1-200)"
        return
        ;;
    esac
    if [ "$got" -gt 0 ] && [ "$got" -lt 128 ]; then
        [ "$(grep -c '^oneword: error: ' "$T/err")" = 1 ] || { fail "$name: not one line of error: $(head -c 300 "$T/err")" && return; }
        [ "$(wc -l <"$T/err")" -le 6 ] || { fail "$name: $(wc -l <"$T/err") lines" && return; }
        [ "$(LC_ALL=C tr -d '\n\040-\176\200-\377' <"$T/err" | wc -c)" = 0 ] || { fail "$name: control bytes in the message" && return; }
    fi
    if grep -qE 'Sanitizer|runtime error' "$T/err"; then fail "$name: $(grep -E 'Sanitizer|runtime error' "$T/err" | head -n 1)"; else ok; fi
}
# says NAME PATTERN: the last message names it
says() {
    if grep -qE -- "$2" "$T/err"; then ok; else fail "$1: \"$2\" not in: $(tail -n 1 "$T/err" | cut -c1-300)"; fi
}
result() { # result NAME STATUS: 0 is good
    if [ "$2" = 0 ]; then ok; else fail "$1"; fi
}
run() { "$O" "$@" >"$T/out" 2>"$T/err" </dev/null; }
good() { # good NAME ARGS...: the program runs with them
    name=$1
    shift
    status "$name" 0 "$O" "$@"
}
bad() { # bad NAME STATUS PATTERN ARGS...: it fails with that status, says PATTERN (a basic one), and writes nothing to stdout
    name=$1 want=$2 pattern=$3
    shift 3
    status "$name" "$want" "$O" "$@"
    grep -q -e "$pattern" "$T/err"
    result "$name: says \"$pattern\"" $?
    [ ! -s "$T/out" ]
    result "$name: nothing on stdout" $?
}
gone() { # gone NAME PATH...: nothing was left behind
    name=$1
    shift
    for path in "$@"; do
        if [ -e "$path" ]; then fail "$name: left $path behind" && return; fi
    done
    ok
}
same() { # same NAME A B
    if cmp -s "$2" "$3"; then ok; else fail "$1: $2 and $3 differ"; fi
}
pause() { sleep 0.05 2>/dev/null || sleep 1; }
finish() {
    [ "$failed" = 0 ] && rm -rf "$T"
    echo "$(basename "$0" .sh): $passed passed, $failed failed"
    [ "$failed" = 0 ]
}
