#!/bin/sh
# oneword tune: a rate of zero changes nothing, any threads write the same bytes, the result is a model; what is refused.
. tests/shell.sh

U=unet/diffusion_pytorch_model.safetensors
X=text_encoder/model.safetensors
A="--model $W/model --embedding $W/learned/mango.safetensors --train-data-dir $W/concepts/mango --template-file $W/templates-object.txt
    --resolution 32 --max-train-steps 3 --threads 1 --quiet"
tune() { # tune OUTPUT OPTIONS...
    out=$1
    shift
    "$O" tune $A -o "$out" "$@"
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

# ---- killed and resumed ----
status "whole" 0 tune "$T/whole" --learning-rate 1e-4 --max-train-steps 30
"$O" tune $A -o "$T/cut" --learning-rate 1e-4 --max-train-steps 30 --checkpointing-steps 4 >/dev/null 2>&1 &
pid=$!
while kill -0 $pid 2>/dev/null && [ ! -s "$T/cut/checkpoint.safetensors" ]; do pause; done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
gone "killed: no model yet" "$T/cut/model_index.json"
check "killed: a checkpoint" test -s "$T/cut/checkpoint.safetensors"
status "another rate" 3 tune "$T/cut" --learning-rate 1e-3 --max-train-steps 30 --resume
says "another rate" "made with other settings"
status "another word" 3 tune "$T/cut" --learning-rate 1e-4 --max-train-steps 30 --resume --embedding $W/learned/bunbun.safetensors
says "another word" "other pictures, sentences or initial vectors"
cp "$T/cut/checkpoint.safetensors" "$T/kept" && "$F" drop "$T/cut/checkpoint.safetensors" unet.conv_in.weight
status "damaged" 3 tune "$T/cut" --learning-rate 1e-4 --max-train-steps 30 --resume
says "damaged" "unet.conv_in.weight is missing"
mv "$T/kept" "$T/cut/checkpoint.safetensors"
"$O" tune $A -o "$T/cut" --learning-rate 1e-4 --max-train-steps 30 --resume >/dev/null 2>&1 &
pid=$!
pause
kill -TERM $pid 2>/dev/null
wait $pid 2>/dev/null
code=$?
check "a signal: status $code" test $code -eq 143 -o $code -eq 0
[ $code -eq 0 ] || status "resumed" 0 tune "$T/cut" --learning-rate 1e-4 --max-train-steps 30 --resume --threads 2
same "killed and stopped: UNet" "$T/whole/$U" "$T/cut/$U"
same "killed and stopped: text encoder" "$T/whole/$X" "$T/cut/$X"
gone "no checkpoint in a finished model" "$T/cut/checkpoint.safetensors"

status "a model is there" 2 tune "$T/a"
says "a model is there" "there is a model already"
status "too little memory" 5 tune "$T/c" --memory 0.05
says "too little memory" "needs at least .*kept in F32"
status "dry run" 0 tune "$T/c" --dry-run
status "a model for a word" 4 tune "$T/c" --embedding testdata/golden/tiny-sd15/$U
gone "nothing begun" "$T/c"
status "no word" 2 "$O" tune --model $W/model --train-data-dir $W/concepts/mango -o "$T/c"
finish
