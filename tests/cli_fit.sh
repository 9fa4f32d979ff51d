#!/bin/sh
# oneword invert, interpolate, project, clip-word, and what generate takes from them: identities, the same bytes for 1 and 2 threads,
# refusals. That the error of inversion falls with steps and rises with guidance, and that gradients are right: tests/test_fit.c.
. "${0%/*}/shell.sh"
OMP_NUM_THREADS=1 # but where --threads says otherwise: the pictures are small, and the machine is shared
export OMP_NUM_THREADS
M=$W/model
C=$W/clip
B0=$W/concepts/bunbun/0.png
M0=$W/concepts/mango/0.png

number() { sed -n "s/.*\"$1\":\(-*[0-9.e+-]*\).*/\1/p" "${2:-$T/out}" | head -n 1; }
less() { # less NAME A B: A < B
    awk -v a="$2" -v b="$3" 'BEGIN {exit !(a != "" && b != "" && a + 0 < b + 0)}'
    result "$1: $2 < $3" $?
}

# ---- invert ----
for t in 1 2; do good "invert, $t threads" invert -q --model $M -p "a photo of a cat" $B0 --steps 4 --threads $t -o "$T/noise$t"; done
same "noise does not depend on threads" "$T/noise1" "$T/noise2"
good "the other rule" invert -q --model $M -p "a photo of a cat" $B0 --steps 4 --rule diffusers -o "$T/noise3"
cmp -s "$T/noise1" "$T/noise3"
result "which is another" $((1 - $?))
good "round trips" invert -q --model $M -p "a photo of a cat" $B0 --round-trip --steps 2,5 --cfg-scale 1,5 --json
[ "$(grep -c latent_mse "$T/out")" = 4 ] && head -n 1 "$T/out" | grep -q autoencoder_psnr
result "a line for each" $?
sed -n 2p "$T/out" >"$T/a" && sed -n 3p "$T/out" >"$T/b" && sed -n 5p "$T/out" >"$T/c"
less "more steps, less error" "$(number latent_mse "$T/b")" "$(number latent_mse "$T/a")"
less "guidance, more error" "$(number latent_mse "$T/b")" "$(number latent_mse "$T/c")"
bad "no picture" 2 "a picture is needed" invert --model $M
bad "a list where one is wanted" 2 "are for --round-trip" invert --model $M $B0 --steps 5,10
bad "one step" 2 "from 2 to" invert --model $M $B0 --steps 1
bad "no number" 2 "expected numbers" invert --model $M $B0 --round-trip --cfg-scale 1,,2
bad "noise that is not written" 2 "leave out --output" invert --model $M $B0 --round-trip -o "$T/none"
bad "a size that does not fit" 2 "multiple of 4" invert --model $M $B0 --resolution 63
bad "a picture that is none" 3 "" invert --model $M $W/README.md

# ---- generate --latent ----
gen() { "$O" generate -q --model $M --steps 2 --cfg-scale 1 "$@" >"$T/out" 2>"$T/err" </dev/null; }
gen -p "a photo of a cat" --seed 8 --save-latents "$T/z" -o "$T/seed.png" && gen -p "a photo of a cat" --seed 8 --latent "$T/noise1" -o "$T/b0.png"
result "from the noise of a picture" $?
gen --from-image "$T/b0.png" --latent "$T/noise1" -o "$T/b1.png"
same "its recipe gives the same file" "$T/b0.png" "$T/b1.png"
gen --from-image "$T/b0.png" -o "$T/b2.png"
says "without the noise it is told" "give its file with --latent"
gen -p "a photo of a red cat" --latent "$T/noise1" -o "$T/b3.png" --no-metadata && ! cmp -s "$T/b3.png" "$T/b0.png"
result "another prompt, the same noise" $?
bad "more pictures than noise" 2 "holds noise for 1" generate --model $M -p "a cat" --latent "$T/noise1" --batch 2
bad "another size" 2 "is noise for 64 x 64" generate --model $M -p "a cat" --latent "$T/noise1" --width 32
bad "no noise" 3 "" generate --model $M -p "a cat" --latent $B0

# ---- generate --clip-guidance ----
guided() { gen -p "a photo" --seed 5 --clip $C --clip-prompt "a photo of a red car" --no-metadata "$@"; }
gen -p "a photo" --seed 5 --no-metadata -o "$T/plain.png" && guided --clip-guidance 0 -o "$T/zero.png"
same "zero guidance is plain sampling" "$T/plain.png" "$T/zero.png"
for t in 1 2; do guided --clip-guidance 100 --threads $t -o "$T/g$t.png"; done
same "guidance does not depend on threads" "$T/g1.png" "$T/g2.png"
cmp -s "$T/plain.png" "$T/g1.png"
result "guidance is another picture" $((1 - $?))
mkdir -p "$T/plain" "$T/guided" && cp "$T/plain.png" "$T/plain/0.png" && cp "$T/g1.png" "$T/guided/0.png"
good "judged without" eval -q --clip $C --samples-dir "$T/plain" --text "a photo of a red car" --json
without=$(number mean_of_cosines)
good "judged with" eval -q --clip $C --samples-dir "$T/guided" --text "a photo of a red car" --json
less "guidance leads to the sentence" "$without" "$(number mean_of_cosines)"
guided --clip-guidance 100 --cutouts 2 --batch 2 -o "$T/c%d.png" && guided --clip-guidance 100 --cutouts 2 --seed 6 -o "$T/alone.png"
same "a guided picture does not depend on its neighbours" "$T/c1.png" "$T/alone.png"
gen -p "a photo" --seed 5 --clip $C --clip-guidance 50 --clip-image $M0 -o "$T/i0.png" && gen --from-image "$T/i0.png" --clip $C --clip-image $M0 -o "$T/i1.png"
same "guidance is in the recipe" "$T/i0.png" "$T/i1.png"
gen --from-image "$T/i0.png" -o "$T/i2.png"
says "without the CLIP it is told" "its directory with --clip"
img() { "$O" edit -q --model $M -i $B0 -p "a photo" --seed 5 --steps 4 --strength 0.5 --cfg-scale 1 --no-metadata "$@" >"$T/out" 2>"$T/err" </dev/null; }
img -o "$T/e0.png" && img --clip $C --clip-guidance 0 -o "$T/e1.png" && img --clip $C --clip-guidance 100 --clip-prompt "a photo of a red car" -o "$T/e2.png"
same "a picture to begin with: zero guidance is a plain edit" "$T/e0.png" "$T/e1.png"
cmp -s "$T/e0.png" "$T/e2.png"
result "a picture to begin with, guided" $((1 - $?))
bad "guidance without a CLIP" 2 "clip DIR is needed" generate --model $M -p "a cat" --clip-guidance 1
bad "a sentence for nothing" 2 "need --clip-guidance" generate --model $M -p "a cat" --clip $C --clip-prompt "a dog"
bad "two goals" 2 "give one of them" generate --model $M -p "a cat" --clip $C --clip-guidance 1 --clip-prompt "a dog" --clip-image $M0

# ---- interpolate ----
inter() { "$O" interpolate -q --model $M --steps 2 --frames 3 "$@" >"$T/out" 2>"$T/err" </dev/null; }
inter --from-word cat --to-word rabbit --seed 3 --cfg-scale 3 -o "$T/w%d.png" --sheet "$T/sheet.png" --json
result "between words" $?
[ "$(grep -c '"t":' "$T/out")" = 3 ] && [ -s "$T/sheet.png" ]
result "three frames and a sheet" $?
for i in 0 2; do
    word=cat && [ $i = 2 ] && word=rabbit
    good "the end $word" generate -q --model $M -p "a photo of a $word" --seed 3 --steps 2 --cfg-scale 3 --no-metadata -o "$T/end.png"
    same "an end is the picture of its word" "$T/w$i.png" "$T/end.png"
done
inter --from-word "<mango>" --to-word cat --embedding $W/learned/mango.safetensors --seed 3 --cfg-scale 1 -o "$T/l%d.png"
result "a learned word" $?
good "its end" generate -q --model $M -p "a photo of a <mango>" --embedding $W/learned/mango.safetensors --seed 3 --steps 2 --cfg-scale 1 --no-metadata -o "$T/end.png"
same "an end is the picture of the learned word" "$T/l0.png" "$T/end.png"
for t in 1 2; do inter --from-picture $B0 --to-picture $M0 -p "a photo of a cat" --threads $t -o "$T/p$t%d.png" && result "between pictures, $t threads" 0; done
same "frames do not depend on threads" "$T/p11.png" "$T/p21.png"
bad "between what" 2 "between what" interpolate --model $M
bad "one end" 2 "belong together" interpolate --model $M --from-word cat
bad "a word that is two" 2 "neither a learned word" interpolate --model $M --from-word cat --to-word "cat dog"
bad "no place for the word" 2 "no {} for the word" interpolate --model $M --from-word cat --to-word dog -p "a cat"
bad "a place for no word" 2 "is for a word" interpolate --model $M --from-picture $B0 --to-picture $M0 -p "a {}"
bad "sizes of pictures" 2 "the pictures have sizes" interpolate --model $M --from-picture $B0 --to-picture $M0 --width 64
bad "one frame" 2 "frames" interpolate --model $M --from-word cat --to-word dog --frames 1

# ---- project ----
for t in 1 2; do good "project, $t threads" project -q --model $M -i $B0 --steps 3 --threads $t --json -o "$T/pr$t.png" --save-latents "$T/pr$t"; done
same "the latent does not depend on threads" "$T/pr1" "$T/pr2"
less "it is nearer than the encoder's" "$(number psnr_encoder)" "$(number psnr)"
good "the latent decodes" decode -q --model $M "$T/pr1" -o "$T/again.png"
same "to the picture" "$T/again.png" "$T/pr1.png"
good "no steps" project -q --model $M -i $B0 --steps 0 --json -o "$T/pr.png" --save-latents "$T/pr"
[ "$(number psnr)" = "$(number psnr_encoder)" ]
result "no steps, no change" $?
good "to a sentence" project -q --model $M --clip $C -p "a photo of a red car" --seed 1 --steps 3 --cutouts 2 --json -o "$T/pr.png" --save-latents "$T/pr"
less "CLIP comes nearer" "$(number cosine_first)" "$(number cosine)"
good "to a picture's features" project -q --model $M --clip $C --clip-image $M0 -i $B0 --seed 1 --steps 2 --cutouts 2 -o "$T/pr.png" --save-latents "$T/pr"
bad "a sentence without a judge" 2 "need a judge" project --model $M -p "a cat" -i $B0
bad "nothing to look for" 2 "one of them" project --model $M --clip $C
bad "nothing at all" 2 "image is needed" project --model $M

# ---- clip-word ----
tune() { "$O" clip-word -q --model $M --train-data-dir $W/concepts/mango --placeholder-token "<m>" --initializer-token cat --steps 6 --json "$@" \
    >"$T/out" 2>"$T/err" </dev/null; }
for t in 1 2; do tune --clip $C --threads $t -o "$T/word$t" && result "clip-word, $t threads" 0; done
same "the word does not depend on threads" "$T/word1" "$T/word2"
less "the loss falls" "$(number loss)" "$(number loss_first)"
less "nearer to the pictures" "$(number pictures_first)" "$(number pictures)"
grep -q '"carried":"linear map"' "$T/out" && less "the map explains something" 0.1 "$(number explained)"
good "the word is a file that works" generate -q --model $M --embedding "$T/word1" -p "a photo of a <m>" --seed 1 --steps 1 -o "$T/m.png"
bad "a coarse word of two tokens" 2 "one token" clip-word --model $M --clip $C --train-data-dir $W/concepts/mango --placeholder-token "<m>" --initializer-token "cat dog"
bad "a sentence without a place" 2 "no {}" clip-word --model $M --clip $C --train-data-dir $W/concepts/mango --placeholder-token "<m>" --initializer-token cat -p "a photo"
bad "a placeholder that is a word" 2 "cat" clip-word --model $M --clip $C --train-data-dir $W/concepts/mango --placeholder-token cat --initializer-token cat
bad "no judge" 2 "clip DIR is missing" clip-word --model $M
finish
