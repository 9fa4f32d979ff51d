#!/bin/sh
# make sabotage: breaks the code one line at a time (tests/mutations) in a copy of the tree and runs the tests there. Every break must
# be noticed: one that is not is a gap in the tests, one that no longer applies an error in the list. `tests/sabotage.sh WORD...`
# tries those whose names contain one of the words. Prints a line each; exit status 1 where one was not caught.
B=${B:-build}
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
make -j2 all tests >/dev/null || exit 2
git ls-files -co --exclude-standard | tar -cf - -T - | tar -xf - -C "$dir" || exit 2
mkdir "$dir/build" && cp -Rp "$B/obj" "$B/tests" "$B/config" "$B/oneword" "$B/liboneword.a" "$dir/build/" || exit 2
find "$dir" -path "$dir/build" -prune -o -type f -exec touch -t 200001010000 {} + # older than every object

# noticed TEST: whether that test fails; "all": the first of all tests that does
noticed() {
    make -j2 all tests >make.log 2>&1 || return 0
    case $1 in
    all) ! FAST=1 tests/run.sh >test.log 2>&1 ;;
    cli_*) ! sh "tests/$1.sh" >test.log 2>&1 ;;
    *) ! "build/tests/$1" >test.log 2>&1 ;;
    esac
}
cd "$dir" || exit 2
unset B MAKEFLAGS
tried=0 missed=0
while IFS= read -r line; do
    case $line in '#'* | '') continue ;; esac
    name=${line%% | *} rest=${line#* | }
    file=${rest%% | *} rest=${rest#* | }
    test=${rest%% | *} command=${rest#* | }
    for word in "$@"; do case $name in *"$word"*) break ;; *) word= ;; esac; done
    [ $# = 0 ] || [ -n "$word" ] || continue
    tried=$((tried + 1))
    cp "$file" whole
    sed "$command" whole >"$file"
    if [ "$(diff whole "$file" | grep -c '^<')" != 1 ]; then
        verdict="DOES NOT APPLY (to exactly one line of $file)"
    elif noticed "$test"; then
        verdict="caught by $test"
        grep -q 'error:' make.log && verdict="DOES NOT COMPILE"
    elif noticed all; then
        verdict="caught by $(grep -E ': [0-9]+ passed, [1-9]|: died' test.log | head -n 1 | sed 's/:.*//')"
    else
        verdict="NOT CAUGHT"
    fi
    case $verdict in caught*) ;; *) missed=$((missed + 1)) ;; esac
    printf '%-45s %s\n' "$name" "$verdict"
    cat whole >"$file" # a new time, so that the broken object is rebuilt
done <tests/mutations
echo "sabotage: $tried mutations, $missed not caught"
[ "$missed" = 0 ]
