#!/bin/sh
# oneword init: models of random weights that the other commands take, the same bytes each time, and what it refuses.
. tests/shell.sh

status init 0 "$O" init --like $W/model -o "$T/a" --seed 3
status "init again" 0 "$O" init --like $W/model -o "$T/b" --seed 3 --threads 1
status "another seed" 0 "$O" init --like $W/model -o "$T/c" --seed 4 --dtype f32
for f in unet/diffusion_pytorch_model vae/diffusion_pytorch_model text_encoder/model; do
    same "same bytes" "$T/a/$f.safetensors" "$T/b/$f.safetensors"
done
check "another type" sh -c "'$O' inspect --json '$T/c/unet/diffusion_pytorch_model.safetensors' | grep -q F32"
check "the seed matters" sh -c "! '$O' diff '$T/a/unet/diffusion_pytorch_model.safetensors' '$T/c/unet/diffusion_pytorch_model.safetensors'"
status "a picture of it" 0 "$O" generate --model "$T/a" -p "a cat" --steps 1 -W 64 -H 64 -o "$T/a.png"
status "a configuration alone" 0 "$O" init --like testdata/configs/toy -o "$T/toy"

status "a model is there" 2 "$O" init --like $W/model -o "$T/a"
says "a model is there" "there is a model already"
status "no --like" 2 "$O" init -o "$T/d"
status "no -o" 2 "$O" init --like $W/model
status "unknown dtype" 2 "$O" init --like $W/model -o "$T/d" --dtype f8
status "no such folder" 6 "$O" init --like "$T/none" -o "$T/d"
gone "nothing begun" "$T/d"

# A component that is not built in is named; the others are written.
mkdir "$T/like" && cp -R $W/model/unet "$T/like/unet" && mkdir "$T/like/bert"
echo '{"_class_name": "LDMTextToImagePipeline", "bert": ["latent_diffusion", "LDMBertModel"], "unet": ["diffusers", "UNet2DConditionModel"]}' >"$T/like/model_index.json"
status "a foreign component" 4 "$O" init --like "$T/like" -o "$T/e"
says "a foreign component" "bert \(LDMBertModel\)"
check "the rest is written" test -s "$T/e/unet/diffusion_pytorch_model.safetensors" -a -s "$T/e/model_index.json"
echo '{"../out": ["diffusers", "UNet2DConditionModel"]}' >"$T/like/model_index.json"
status "a folder elsewhere" 3 "$O" init --like "$T/like" -o "$T/f"
finish
