#!/bin/sh
# oneword edit, and the choice among candidates that generate and edit share. Identities at the command line: what a mask of ones,
# strength 0 and N = 1 must give; recipes that give the same bytes again; scores that are those of eval.
. tests/shell.sh
OMP_NUM_THREADS=1 # but where --threads says otherwise: the pictures are small, and the machine is shared
export OMP_NUM_THREADS
M=$W/model
P=$W/concepts/mango/0.png
holds() { # NAME PATTERN: the last stdout has a line with it
    grep -q -e "$2" "$T/out"
    result "$1" $?
}
value() { sed -n "s/.*\"$1\":\(-*[0-9.e-]*\).*/\1/p" "$T/out"; }
near() { # near NAME A B
    awk -v a="$2" -v b="$3" 'BEGIN {exit !(a != "" && b != "" && a - b < 1e-6 && b - a < 1e-6)}'
    result "$1: $2 and $3" $?
}
rows() { # rows N BLACK WHITE: N rows of so many pixels each
    i=0
    while [ $i -lt "$1" ]; do
        head -c "$2" /dev/zero
        head -c "$3" /dev/zero | tr '\0' '\377'
        i=$((i + 1))
    done
}
mask() { # mask FILE BLACK WHITE
    { printf 'P5 64 64 255\n' && rows 64 "$2" "$3"; } >"$T/$1.pgm"
}
mask white 0 64
mask black 64 0
mask half 32 32
mask thin 63 1
{ printf 'P5 32 32 255\n' && rows 32 0 32; } >"$T/small.pgm"
edit() { "$O" edit -q --model $M -i $P -p 'a photo of a red cat' --steps 3 --cfg-scale 3 --seed 5 "$@"; }
generate() { "$O" generate -q --model $M -p 'a photo of a red cat' --steps 3 --cfg-scale 3 --seed 5 "$@"; }

# ---- identities ----
check "plain" generate -o "$T/plain.ppm"
check "strength 1" edit --strength 1 -o "$T/a.ppm"
same "strength 1 is from noise" "$T/plain.ppm" "$T/a.ppm"
check "a white mask" edit --mask "$T/white.pgm" --mask-shrink 2 -o "$T/a.ppm"
same "a white mask changes all" "$T/plain.ppm" "$T/a.ppm"
check "a black mask, inverted" edit --mask "$T/black.pgm" --invert-mask -o "$T/a.ppm"
same "what is black changes" "$T/plain.ppm" "$T/a.ppm"
good "strength 0" edit -q --model $M -i $P -p cat --strength 0 -o "$T/a.ppm"
says "a warning that nothing is done" 'warning: no step is left'
check "encoded" "$O" encode --model $M $P -o "$T/z.safetensors" && check "decoded" "$O" decode --model $M "$T/z.safetensors" -o "$T/b.ppm"
same "strength 0 is the autoencoder" "$T/a.ppm" "$T/b.ppm"
check "N = 1" edit --low-pass 1 -o "$T/a.ppm"
same "N = 1 in the latent is the autoencoder" "$T/a.ppm" "$T/b.ppm"
check "N = 1 in pixels" edit --low-pass 1 --low-pass-space pixel -o "$T/a.ppm"
check "black, half" edit --mask "$T/half.pgm" -o "$T/half.ppm"
check "the picture" "$O" edit -q --model $M -i $P -p x --steps 1 --mask "$T/half.pgm" --first-step 1 -o "$T/p.ppm"
# of rows of 192 bytes the first half is the picture's
tail -c 12288 "$T/a.ppm" | od -An -v -tu1 -w192 | cut -c1-384 >"$T/a.left"
tail -c 12288 "$T/half.ppm" | od -An -v -tu1 -w192 | cut -c1-384 | cmp -s - "$T/a.left"
result "paste keeps every byte" $?
edit --low-pass 4 --low-pass-until 0 -o "$T/a.ppm" >"$T/out" 2>"$T/err"
same "a low band that is never exchanged" "$T/plain.ppm" "$T/a.ppm"

# ---- recipes and threads ----
set -- --mask "$T/half.pgm" --mask-shrink 1 --low-pass 2 --low-pass-until 2 --background decoder --decoder-steps 3 --first-step 1
check "all at once" edit "$@" --threads 1 -o "$T/all.png"
check "two threads" edit "$@" --threads 2 -o "$T/b.png"
same "threads do not change a byte" "$T/all.png" "$T/b.png"
check "in little memory" edit "$@" --memory low -o "$T/b.png"
same "memory does not change a byte" "$T/all.png" "$T/b.png"
check "from its recipe" "$O" edit -q --model $M -i $P --mask "$T/half.pgm" --from-image "$T/all.png" -o "$T/b.png"
same "the recipe gives the same bytes" "$T/all.png" "$T/b.png"
[ ! -s "$T/check.out" ] || [ "$(cat "$T/check.out")" = "$T/b.png" ]
result "without a warning" $?
good "another picture" edit -q --model $M -i $W/concepts/mango/1.png --mask "$T/half.pgm" --from-image "$T/all.png" -o "$T/b.png"
says "another picture is noticed" 'warning: .*made from another picture'
good "another mask" edit -q --model $M -i $P --mask "$T/white.pgm" --from-image "$T/all.png" -o "$T/b.png"
says "another mask is noticed" 'warning: .*made with another mask'
bad "no mask" 2 'made with a mask' edit --model $M -i $P --from-image "$T/all.png" -o "$T/bad.png"
good "the recipe without the picture" generate -q --model $M --from-image "$T/all.png" -o "$T/b.png"
says "edited pictures are noticed" 'warning: .*was made from a picture'
for k in strength first-step; do
    [ $k = strength ] && v=0.67 || v=1
    check "$k" edit --$k $v -o "$T/$k.png"
done
same "two ways to say it" "$T/strength.png" "$T/first-step.png"
check "low band in pixels" edit --low-pass 8 --low-pass-space pixel --threads 1 -o "$T/a.png"
check "from its recipe" "$O" edit -q --model $M -i $P --from-image "$T/a.png" --threads 2 -o "$T/b.png"
same "in pixels too" "$T/a.png" "$T/b.png"
check "another size" edit -W 32 -H 48 --strength 0.4 -o "$T/a.ppm"
[ "$(head -c 15 "$T/a.ppm" | tr '\n' ' ')" = "P6 32 48 255 " ] || [ "$(head -n 2 "$T/a.ppm" | tail -n 1)" = "32 48" ]
result "has that size" $?

# ---- refusals ----
bad "strength 2" 2 'strength' edit --model $M -i $P -p cat --strength 2 -o "$T/bad.png"
bad "a mask of another size" 2 'the mask is 32 x 32, the picture 64 x 64' edit --model $M -i $P -p cat --mask "$T/small.pgm" -o "$T/bad.png"
bad "an empty mask" 3 'the mask is empty' edit --model $M -i $P -p cat --mask "$T/black.pgm" -o "$T/bad.png"
bad "a mask too thin" 3 'the mask is empty' edit --model $M -i $P -p cat --mask "$T/thin.pgm" -o "$T/bad.png"
bad "no picture" 2 '--picture is needed' edit --model $M -p cat -o "$T/bad.png"
bad "no such picture" 6 nowhere edit --model $M -i "$T/nowhere.png" -p cat -o "$T/bad.png"
bad "a size that does not fit" 2 'the nearest is 32' edit --model $M -i $P -p cat -W 33 -o "$T/bad.png"
bad "both of one thing" 2 'say the same' edit --model $M -i $P -p cat --strength 1 --first-step 2 -o "$T/bad.png"
bad "a step that there is not" 2 'expected 0 to 3' edit --model $M -i $P -p cat --steps 3 --first-step 4 -o "$T/bad.png"
bad "a background without a mask" 2 'need --mask' edit --model $M -i $P -p cat --background paste -o "$T/bad.png"
bad "steps of no decoder" 2 'needs --background decoder' edit --model $M -i $P -p cat --mask "$T/half.pgm" --decoder-steps 3 -o "$T/bad.png"
bad "more masks than steps" 2 'the mask shrinks 4 times' edit --model $M -i $P -p cat --steps 3 --mask "$T/half.pgm" --mask-shrink 4 -o "$T/bad.png"
bad "a low band that does not divide" 2 'a divisor' edit --model $M -i $P -p cat --low-pass 3 -o "$T/bad.png"
bad "until without a low band" 2 'need --low-pass' edit --model $M -i $P -p cat --low-pass-until 3 -o "$T/bad.png"
gone "refusals leave nothing" "$T/bad.png"

# ---- the choice among candidates ----
mkdir "$T/kept" "$T/one"
check "candidates" generate --candidates 5 --keep 3 --clip $W/clip --json -o "$T/kept/%d.png"
cp "$T/check.out" "$T/out"
[ "$(ls "$T/kept" | wc -l)" = 3 ] && [ "$(grep -c '"of":5' "$T/out")" = 3 ]
result "three of five" $?
value text >"$T/scores" && sort -gr "$T/scores" | cmp -s - "$T/scores"
result "the best first" $?
cp "$T/kept/0.png" "$T/one/"
best=$(head -n 1 "$T/scores") seed=$(head -n 1 "$T/out" | sed 's/.*"seed":\([0-9]*\).*/\1/')
good "eval of the best" eval --clip $W/clip --samples-dir "$T/one" --text 'a photo of a red cat' --json
near "a score is what eval says" "$(value mean_of_cosines)" "$best"
check "the best alone" "$O" generate -q --model $M --from-image "$T/one/0.png" -o "$T/a.ppm"
generate --seed "$seed" -o "$T/b.ppm" >"$T/out" 2>"$T/err"
same "its recipe is its own seed" "$T/a.ppm" "$T/b.ppm"
grep -aq '"rank":{"place":1,"of":5,"sentence":"a photo of a red cat","text":0' "$T/one/0.png"
result "the recipe holds place and score" $?
check "all five, as they come" generate --batch 5 --clip $W/clip --json --save-latents "$T/z.safetensors" -o "$T/all.png"
[ "$(sed -n 's/.*"score":\([0-9.e-]*\).*/\1/p' "$T/check.out" | sort -gr | head -n 3)" = "$(cat "$T/scores")" ]
result "the three are the best three of five" $?
check "the best one's latent" "$O" decode --model $M "$T/z.safetensors" -o "$T/a-%d.ppm"
same "latents are in the order of the pictures" "$T/a-0.ppm" "$T/a.ppm"
check "by likeness" generate --candidates 4 --keep 1 --clip $W/clip --like $W/concepts/mango --rank image --json -o "$T/one/0.png"
cp "$T/check.out" "$T/out"
best=$(value score)
good "eval of the likest" eval --clip $W/clip --samples-dir "$T/one" --train-data-dir $W/concepts/mango --json
near "likeness is what eval says" "$(value reconstruction)" "$best"
check "by both" generate --candidates 4 --clip $W/clip --like $W/concepts/mango --json --embedding $W/learned/mango.safetensors -o "$T/both.png" -p 'a photo of a <mango>'
awk -F'"score":' '{ split($2, a, ","); n++; sum += a[1]; if (n > 1 && a[1] > last) exit 1; last = a[1] } END { exit !(n == 4 && sum < 1e-9 && sum > -1e-9) }' "$T/check.out"
result "by both: standardised, in order" $?
grep -aq '"sentence":"a photo of a "' "$T/both-0.png"
result "the learned word is left out of what CLIP reads" $?
check "an edit is judged by what is in the mask" edit --mask "$T/half.pgm" --candidates 3 --clip $W/clip --json -o "$T/m.png"
check "whatever the background" edit --mask "$T/half.pgm" --background latent --candidates 3 --clip $W/clip --json -o "$T/l.png"
for f in m l; do grep -o '"sentence":.*"text":[0-9.]*' "$T/$f-0.png" -a; done | sort -u | wc -l | grep -q '^ *1$'
result "the same scores" $?
check "one thread" edit --mask "$T/half.pgm" --candidates 3 --keep 1 --clip $W/clip --threads 1 -o "$T/a.png"
check "two threads" edit --mask "$T/half.pgm" --candidates 3 --keep 1 --clip $W/clip --threads 2 -o "$T/b.png"
same "threads do not change the choice" "$T/a.png" "$T/b.png"
bad "no judge" 2 '--clip DIR is needed' generate --model $M -p cat --candidates 4 -o "$T/bad.png"
bad "too many to keep" 2 'there are 4 candidates' generate --model $M -p cat --candidates 4 --keep 5 --clip $W/clip -o "$T/bad.png"
bad "likeness to nothing" 2 '--like DIR is needed' generate --model $M -p cat --candidates 4 --rank image --clip $W/clip -o "$T/bad.png"
bad "two numbers" 2 'the same number' generate --model $M -p cat --candidates 4 --batch 4 --clip $W/clip -o "$T/bad.png"
bad "nothing to rank by" 2 'nothing but a learned word' generate --model $M -p '<mango>' --steps 1 --embedding $W/learned/mango.safetensors --candidates 2 --clip $W/clip -o "$T/bad.png"
gone "refusals leave nothing" "$T/bad.png"

# ---- prompts from a file ----
printf '# captions\na red cat\n\n a yellow ball \n' >"$T/captions"
good "captions in the word's place" generate -q --model $M -p 'a photo of {} at night' --prompts "$T/captions" -b 2 --steps 1 --seed 5 --json -o "$T/c%d.ppm"
holds "says which prompt" '"prompt":"a photo of  a yellow ball at night"'
[ "$(wc -l <"$T/out")" = 4 ]
result "each prompt so often" $?
check "the third alone" "$O" generate -q --model $M -p 'a photo of a yellow ball at night' --steps 1 --seed 5 -o "$T/a.ppm"
same "is the first of the second prompt" "$T/c2.ppm" "$T/a.ppm"
good "prompts as they are" generate -q --model $M --prompts "$T/captions" --steps 1 --seed 5 --json -o "$T/c%d.ppm"
holds "as it is written" '"prompt":"a red cat"'
bad "no place for them" 2 'no {} for the lines' generate --model $M -p cat --prompts "$T/captions" -o "$T/bad.png"
printf '# nothing\n' >"$T/captions"
bad "no line" 3 'no prompt in it' generate --model $M --prompts "$T/captions" -o "$T/bad.png"

finish
