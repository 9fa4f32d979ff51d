#!/bin/sh
# oneword paper, made small: resumed, sharded, merged to the same bytes; refusals; the whole report.
. tests/shell.sh
tiny="-q -t 1 --objects 2 --styles 1 --max-train-steps 1 --samples 1 --sentences 1 --edit-samples 1 --steps 1"
some="4.4 4.5"

same_results() { # NAME A B: reports, numbers and sheets of two folders
    for f in report.html results.json sheet-4.4.png sheet-4.5.png; do same "$1: $f" "$2/$f" "$3/$f"; done
}

status "a plan" 0 "$O" paper $some $tiny --dry-run -o "$T/none"
gone "a plan makes nothing" "$T/none"
status "a run" 0 "$O" paper $some $tiny -o "$T/a"
for claim in "works" "side by side" "is biased" "less so"; do check "verdict: $claim" grep -qE "^(holds|does not hold|undecided) .*$claim" "$T/out"; done
units=$(ls "$T/a/units" | wc -l)
[ "$units" -gt 12 ] && ok || fail "units: $units"

cp -R "$T/a" "$T/again" && : >"$T/now" && pause
status "a second run" 0 "$O" paper $some $tiny -o "$T/again"
[ -z "$(find "$T/again/units" -type f -newer "$T/now")" ] && ok || fail "a second run makes units again"
same_results "a second run" "$T/a" "$T/again"

# Half of the units gone, one half-written: what a run that was killed leaves.
ls "$T/again/units" | awk 'NR % 2' | while read -r f; do rm "$T/again/units/$f"; done
echo >"$T/again/units/.$(ls "$T/a/units" | head -n 1).tmp.1"
status "a run that was killed goes on" 0 "$O" paper $some $tiny -o "$T/again"
same_results "a run that was killed" "$T/a" "$T/again"
"$O" paper $some $tiny -o "$T/killed" >/dev/null 2>&1 &
pid=$!
while [ ! -d "$T/killed/units" ]; do pause; done
pause && kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
status "killed in earnest" 0 "$O" paper $some $tiny -t 2 -o "$T/killed"
same_results "killed, then on two threads" "$T/a" "$T/killed"

# ---- shards ----
for i in 2 1; do
    status "shard $i of 2, as a task of a Slurm array" 0 \
        env ONEWORD="$O" SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=2 sh tools/paper/slurm.sh "$T/two" $some $tiny
done
gone "shards write no report" "$T/two/report.html"
status "all of it" 0 "$O" paper $some $tiny -o "$T/two"
same_results "two shards, one folder" "$T/a" "$T/two"
for i in 1 2 3 4 5; do status "shard $i of 5" 0 "$O" paper $some $tiny -o "$T/five.$i" --shard $i/5; done
status "five folders" 0 "$O" paper -q --merge "$T"/five.? -o "$T/five"
same_results "five shards, five folders" "$T/a" "$T/five"
status "a folder is missing" 3 "$O" paper -q --merge "$T/five.1" "$T/five.2" -o "$T/part"
says "a folder is missing" "units are in none of the folders"
cp -R "$T/a" "$T/other"
for f in "$T"/other/units/*.json; do sed 's/0/1/' "$f" >"$T/score" && cp "$T/score" "$f" && break; done
status "two results of one unit" 7 "$O" paper -q --merge "$T/a" "$T/other" -o "$T/differs"
says "two results of one unit" "differ: two machines made the same unit"
status "other sizes" 0 "$O" paper 4.5 $tiny --samples 2 -o "$T/sizes"
status "shards of other sizes" 2 "$O" paper -q --merge "$T/a" "$T/sizes" -o "$T/mixed"
says "shards of other sizes" "other sizes or sections"

# ---- damage, and what cannot be asked for ----
for f in "$T"/other/units/*.json; do echo '{}' >"$f"; done
status "a damaged score" 3 "$O" paper $some $tiny -o "$T/other"
says "a damaged score" "remove it"
status "no such section" 2 "$O" paper 4.9 -o "$T/none"
says "no such section" 'no section "4.9"'
for bad in 0/2 3/2 1 a/b 1/; do status "--shard $bad" 2 "$O" paper 4.5 --shard $bad -o "$T/none"; done
status "--merge alone" 2 "$O" paper --merge -o "$T/none"
status "--merge of nothing" 6 "$O" paper --merge "$T/nothing" -o "$T/none/units"

# ---- every section ----
status "every section" 0 "$O" paper -q -t 1 --objects 1 --styles 2 --max-train-steps 1 --samples 1 --sentences 1 --edit-samples 1 --steps 1 -o "$T/all"
"$O" paper --help | sed -n 's/^Sections: \(.*\) (default.*/\1/p' | tr ' ' '\n' >"$T/sections"
[ -s "$T/sections" ] && ok || fail "--help lists no sections"
while read -r id; do check "section $id" grep -q "id=\"s$id\"" "$T/all/report.html"; done <"$T/sections"
if grep -qiE '(href|src|url\()[ =]*"?(https?:|//)|<script|@import|<link' "$T/all/report.html"; then fail "the report refers to something outside"; else ok; fi
if grep -qE '<(path|text|circle|rect)[^>]*(nan|inf)' "$T/all/report.html"; then fail "a figure with no number"; else ok; fi
check "the report is whole" grep -q '</html>' "$T/all/report.html"
status "results.json is JSON" 0 "$O" inspect "$T/all/results.json"
for id in 5.3 A; do
    check "figure $id stands alone" sh -c "grep -q 'xmlns=' '$T/all/figure-$id.svg' && [ \"\$(tail -n 1 '$T/all/figure-$id.svg')\" = '</svg>' ]"
done
sed -n '/<svg/,/<\/svg>/p' "$T/all/report.html" | grep '<circle' | sort >"$T/in-report"
cat "$T"/all/figure-*.svg | grep '<circle' | sort >"$T/in-files"
same "the figures' files are those of the report" "$T/in-report" "$T/in-files"
finish
