#!/bin/sh
# Learns a word for each of the 13 bundled objects with `train --preset quick` and judges it with `eval`: 16 samples of
# "a photo of a WORD", 25 steps of DDIM, guidance 4, every sample against every picture of the object. The bar is a mean CLIP
# similarity of .50 (the PyTorch prototype reached .513, the initialiser words alone .376). Takes minutes: not part of make test.
#
#   tests/eval_objects.sh [options of train ...]      from the top of the tree, after make
#
# Environment: B (build folder), OUT (results, default $B/eval), THREADS, BASELINE=1 (judges the initialiser words too),
# OBJECTS (default: all of index.json).
set -e
B=${B:-build} world=testdata/world
OUT=${OUT:-$B/eval} threads=${THREADS:+--threads $THREADS}
index=$world/concepts/index.json
# Names of the entries of kind "object" that have a caption, in order; "chefs", without one, is for another experiment.
objects=${OBJECTS:-$(awk -F'"' '/^  "/ {name = $2} /"caption"/ {print name}' $index)}

initializer() { awk -F'"' -v want="$1" '/^  "/ {name = $2} /"initializer"/ && name == want {print $4}' $index; }
reconstruction() { sed -n 's/.*"reconstruction":\([0-9.]*\).*/\1/p' | cut -c 1-5; }
judge() { $B/oneword eval --quiet --json --model $world/model --clip $world/clip --samples 16 --edit-samples 0 --steps 25 --cfg-scale 4 \
    --seed 0 $threads "$@" | reconstruction; }

mkdir -p "$OUT"
: >"$OUT/scores"
for name in $objects; do
    word=$(initializer "$name") data=$world/concepts/$name start=$(date +%s)
    rm -rf "${OUT:?}/$name"
    $B/oneword train --quiet --preset quick --model $world/model --train-data-dir "$data" --template-file $world/templates-object.txt \
        --placeholder-token "<$name>" --initializer-token "$word" --seed 0 --output "$OUT/$name" $threads "$@" >/dev/null
    learned=$(judge --train-data-dir "$data" --embedding "$OUT/$name/learned_embeds.safetensors")
    took=$(($(date +%s) - start)) known=-
    [ -z "$BASELINE" ] || known=$(judge --train-data-dir "$data" --word "$word")
    echo "$name $learned $word $known" >>"$OUT/scores"
    printf '%-8s %s   %s %s   %d s\n' "$name" "$learned" "$word" "$known" "$took"
done
awk '{a += $2; b += $4}
    END {
        mean = a / NR
        known = (b > 0) ? sprintf("%.3f", b / NR) : "not measured"
        printf "mean     %.3f over %d objects (initialiser words: %s), bar .50: %s\n", mean, NR, known, (mean >= .5) ? "passed" : "FAILED"
        exit (mean < .5)
    }' "$OUT/scores"
