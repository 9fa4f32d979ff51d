#!/bin/sh
# oneword tune: a rate of zero changes nothing, any threads write the same bytes, the result is a model; what is refused.
. tests/shell.sh

U=unet/diffusion_pytorch_model.safetensors
X=text_encoder/model.safetensors
tune() { # tune OUTPUT OPTIONS...
    out=$1
    shift
    "$O" tune --model $W/model --embedding $W/learned/mango.safetensors --train-data-dir $W/concepts/mango --template-file $W/templates-object.txt \
        --resolution 32 --max-train-steps 3 --threads 1 -o "$out" --quiet "$@"
}
picture() { "$O" generate --model "$1" --embedding $W/learned/mango.safetensors -p 'a photo of a <mango>' --steps 2 -W 32 -H 32 --seed 1 --no-metadata \
    -o "$2" --quiet; }

status "rate zero" 0 tune "$T/zero" --learning-rate 0 --dtype f16
check "stdout is the folder" test "$(cat "$T/out")" = "$T/zero"
check "rate zero: UNet" "$O" diff "$T/zero/$U" $W/model/$U
check "rate zero: text encoder" "$O" diff "$T/zero/$X" $W/model/$X
status "rate zero, F32" 0 tune "$T/zero32" --learning-rate 0
status "a picture" 0 picture $W/model "$T/model.png"
status "a picture of rate zero" 0 picture "$T/zero32" "$T/zero32.png"
same "the same picture" "$T/model.png" "$T/zero32.png"

status "a rate" 0 tune "$T/a" --learning-rate 1e-4
status "another number of threads, less memory" 0 tune "$T/b" --learning-rate 1e-4 --threads 2 --memory low
same "the same UNet" "$T/a/$U" "$T/b/$U"
same "the same text encoder" "$T/a/$X" "$T/b/$X"
same "the word is fixed" "$T/a/learned_embeds.safetensors" "$T/zero/learned_embeds.safetensors"
status "a picture of it" 0 picture "$T/a" "$T/a.png"
check "another picture" sh -c "! cmp -s $T/a.png $T/model.png"
for f in vae/diffusion_pytorch_model.safetensors model_index.json unet/config.json tokenizer/vocab.json scheduler/scheduler_config.json; do
    same "$f" "$T/a/$f" $W/model/$f
done

status "a model is there" 2 tune "$T/a"
says "a model is there" "there is a model already"
status "too little memory" 5 tune "$T/c" --memory 0.05
says "too little memory" "needs at least .*kept in F32"
status "dry run" 0 tune "$T/c" --dry-run
status "a model for a word" 4 tune "$T/c" --embedding testdata/golden/tiny-sd15/$U
gone "nothing begun" "$T/c"
status "no word" 2 "$O" tune --model $W/model --train-data-dir $W/concepts/mango -o "$T/c"
finish
