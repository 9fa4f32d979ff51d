#!/bin/sh
# oneword bench: every network of the bundled model and one kind of kernel, once, as a table and as JSON. No time is judged.
. tests/shell.sh
once="--seconds 0 --runs 1"

status table 0 "$O" bench $once --only machine,add,text,text-bwd,unet,unet-bwd,inversion,vae-encode,vae-decode --profile
for row in "float32 multiply-adds" "forward  4096 x 320" "text " "text-bwd " "unet " "unet-bwd " "inversion " "vae-encode " "vae-decode " "operators of unet" "operators and shapes of inversion" "peak memory"; do
    check "table has $row" grep -q -- "^$row" "$T/out"
done
status json 0 "$O" bench $once --only unet,vae-decode --json --size 32 --batch 2
mv "$T/out" "$T/bench.json"
status "json is JSON" 0 "$O" inspect "$T/bench.json"
for part in '"name": "unet"' '"seconds": [0-9]' '"gflops": [0-9]' '"memory": [0-9]' '"rss_peak": [0-9]' '"latent": 8' '"batch": 2'; do
    check "json has $part" grep -q "$part" "$T/bench.json"
done
status "all weights" 4 "$O" bench $once --only train
says "half precision is not trained" "F32"
"$O" init --like $W/model -o "$T/f32" --dtype f32 -q
status "all weights in F32" 0 "$O" bench $once --only train --model "$T/f32" --batch 2

status "unknown name" 2 "$O" bench --only unet,vea-decode
says "unknown name" '"vea-decode"'
status "no such model" 6 "$O" bench --only unet --model "$T/none"
finish
