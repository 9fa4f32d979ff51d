#!/bin/sh
# oneword eval and oneword demo. The cosines of pictures and sentences are those of PyTorch, from
# testdata/world/clip/cases/similarity.safetensors (out.image_embeds, out.text_embeds), whose pictures are the first ones of
# bunbun, casa and chefs.
. tests/shell.sh
mkdir -p "$T/two" "$T/one" "$T/empty" || exit 1

value() { sed -n "s/.*\"$1\":\(-*[0-9.e-]*\).*/\1/p" "$T/out"; }
near() { # NAME KEY EXPECTED: the JSON's number within 1e-6
    awk -v a="$(value "$2")" -v b="$3" 'BEGIN {exit !(a != "" && a - b < 1e-6 && b - a < 1e-6)}'
    code=$?
    [ $code = 0 ] || echo "  $2: $(value "$2"), expected $3"
    result "$1" $code
}

# ---- folders of pictures ----
cp $W/concepts/bunbun/0.png "$T/two/0.png" && cp $W/concepts/casa/0.png "$T/two/1.png" && cp $W/concepts/chefs/0.png "$T/one/0.png"
good "pictures against pictures and a sentence" eval --clip $W/clip --samples-dir "$T/two" --train-data-dir "$T/one" --text "a photo of an orange {} cat" --json
near "reconstruction is the mean over all pairs" reconstruction 0.4574663
near "editability: the mean of the cosines" mean_of_cosines 0.4957191
near "editability: the cosine of the mean" cosine_of_mean 0.5585346
good "one picture against a sentence" eval --clip $W/clip --samples-dir "$T/one" --text "a photo of a purple monster with yellow dots" --json
near "one picture: the mean of one cosine" mean_of_cosines 0.4264364
near "one picture: both definitions agree" cosine_of_mean 0.4264364
good "a picture against itself" eval --clip $W/clip --samples-dir "$T/one" --train-data-dir "$T/one" --json
near "a picture is one with itself" reconstruction 1
good "for people" eval --clip $W/clip --samples-dir "$T/two" --train-data-dir "$T/one"
grep -q '^reconstruction  0\.[0-9]*  \[-*[0-9.]*, [0-9.]*\]  *2 pictures against 1, all pairs$' "$T/out"
result "says what was compared" $?

# Two pictures: Student's interval is their mean -+ 12.7062 times half of what they differ by.
apart() { "$O" eval --clip $W/clip --samples-dir "$1" --train-data-dir "$T/one" --json | sed 's/.*"reconstruction":\([0-9.e-]*\).*/\1/'; }
mkdir "$T/first" "$T/second" && cp "$T/two/0.png" "$T/first" && cp "$T/two/1.png" "$T/second"
"$O" eval --clip $W/clip --samples-dir "$T/two" --train-data-dir "$T/one" --json >"$T/out"
sed 's/.*"reconstruction_interval":\[\([^]]*\)\].*/\1/; s/,/ /' "$T/out" | awk -v a="$(apart "$T/first")" -v b="$(apart "$T/second")" '
    {m = (a + b) / 2; h = 12.7062 * (a > b ? a - b : b - a) / 2; exit !($1 - (m - h) < 1e-6 && (m - h) - $1 < 1e-6 && $2 - (m + h) < 1e-6 && (m + h) - $2 < 1e-6)}'
ok "the interval of reconstruction" $?
"$O" eval --clip $W/clip --samples-dir "$T/one" --train-data-dir "$T/one" --json | grep -q '"reconstruction_interval":\[null,null\]'
ok "one picture says nothing of its spread" $?

# ---- kept features ----
cp "$T/out" "$T/plain"
good "features are computed and kept" eval --clip $W/clip --samples-dir "$T/two" --train-data-dir "$T/one" --json --cache "$T/cache"
cmp -s "$T/out" "$T/plain" && [ "$(ls "$T/cache" | wc -l)" = 3 ]
ok "a file a picture, the same scores" $?
good "and read" eval --clip $W/clip --samples-dir "$T/two" --train-data-dir "$T/one" --json --cache "$T/cache"
cmp -s "$T/out" "$T/plain"
ok "the same scores again" $?
for f in "$T"/cache/*; do cp "$(ls "$T"/cache/* | head -n 1)" "$f.same" && mv "$f.same" "$f"; done
good "what is kept is what is used" eval --clip $W/clip --samples-dir "$T/two" --train-data-dir "$T/one" --json --cache "$T/cache"
near "all pictures alike" reconstruction 1
for f in "$T"/cache/*; do echo >"$f"; done
bad "a damaged file is named" 3 "$T/cache" eval --clip $W/clip --samples-dir "$T/two" --train-data-dir "$T/one" --json --cache "$T/cache"

# ---- a learned word ----
word() { "$O" eval --quiet --json --clip $W/clip --model $W/model --embedding $W/learned/mango.safetensors --train-data-dir $W/concepts/mango \
    --steps 2 --seed 5 "$@" 2>"$T/err" </dev/null; }
word --samples 3 --edit-samples 2 --prompt "a photo of a {} at night" --prompt "pixel art of a {}" --threads 1 >"$T/out"
result "a word" $?
cp "$T/out" "$T/threads1"
[ "$(grep -o '"prompt":' "$T/out" | wc -l)" -eq 2 ]
result "one score a sentence" $?
word --samples 3 --edit-samples 2 --prompt "a photo of a {} at night" --prompt "pixel art of a {}" --threads 2 | cmp - "$T/threads1"
result "threads do not change a digit" $?
printf 'a photo of a {} at night\n# remark\npixel art of a {}\n' >"$T/prompts"
word --samples 3 --edit-samples 2 --prompts "$T/prompts" | cmp - "$T/threads1"
result "sentences from a file" $?
word --samples 3 --edit-samples 0 --word "<mango>" >"$T/out"
[ "$(value reconstruction)" = "$(sed 's/.*"reconstruction":\([0-9.]*\),.*/\1/' "$T/threads1")" ] && ! grep -q editability "$T/out"
result "no editability when nobody asks; the word named gives the same" $?
word --samples 3 --edit-samples 0 --word cat >"$T/out"
[ "$(value reconstruction)" != "$(sed 's/.*"reconstruction":\([0-9.]*\),.*/\1/' "$T/threads1")" ]
result "another word, another score" $?

# ---- errors ----
bad "no judge" 2 '--clip DIR is missing' eval --model $W/model
bad "no word" 2 '--embedding FILE is missing' eval --clip $W/clip --model $W/model --train-data-dir $W/concepts/mango
bad "nothing to compare with" 2 '--samples-dir: give' eval --clip $W/clip --samples-dir "$T/one"
bad "a sentence without a place" 2 'no {}' eval --clip $W/clip --model $W/model --train-data-dir $W/concepts/mango --word cat --prompt "a cat"
bad "an empty folder" 3 'no pictures' eval --clip $W/clip --samples-dir "$T/empty" --text "a cat"
bad "no CLIP there" 6 "$T/empty" eval --clip "$T/empty" --samples-dir "$T/one" --text "a cat"
bad "a suggestion" 2 'did you mean --samples' eval --sampels 3

# ---- the demonstration, made small ----
mini() { # FOLDER THREADS: too few steps to learn anything, which is exit 7
    "$O" demo --quiet --max-train-steps 16 --samples 4 --steps 1 --threads "$2" --output "$T/$1" >"$T/out" 2>"$T/err" </dev/null
    [ $? = 7 ]
}
mini demo 1
result "demo says that it did not work" $?
grep -q '^It did not work' "$T/out" && [ ! -s "$T/err" ]
result "the verdict is a sentence" $?
mini demo2 2 && cmp "$T/demo/sheet.png" "$T/demo2/sheet.png" && cmp "$T/demo/learned_embeds.safetensors" "$T/demo2/learned_embeds.safetensors"
result "threads do not change sheet and word" $?
grep -o 'src="[^"]\{0,22\}' "$T/demo/report.html" >"$T/sources"
[ "$(wc -l <"$T/sources")" -gt 50 ] && ! grep -qv 'data:image/png;base64,' "$T/sources"
result "the report holds its pictures" $?
! grep -qiE '(href|src|url\()[ =]*"?(https?:|//)|<script|@import|<link' "$T/demo/report.html"
result "the report refers to nothing outside" $?
grep -q '</html>' "$T/demo/report.html" && grep -q '&lt;mango&gt;' "$T/demo/report.html" && ! grep -q '<mango>' "$T/demo/report.html"
result "the report is whole, and the word escaped" $?
[ "$(grep -c '<svg' "$T/demo/report.html")" -eq 2 ] && ! grep -qE '^<(path|text|circle).*(nan|inf)' "$T/demo/report.html"
result "two curves" $?
good "the word is a file that works" eval --quiet --json --clip $W/clip --model $W/model --embedding "$T/demo/learned_embeds.safetensors" \
    --train-data-dir $W/concepts/mango --samples 1 --edit-samples 0 --steps 1
bad "an unknown concept" 2 'no object of that name' demo --concept nobody --output "$T/none"
bad "a style is no object" 2 'no object of that name' demo --concept rosewood --output "$T/none"
[ ! -e "$T/none" ]
result "nothing is left behind" $?

finish
