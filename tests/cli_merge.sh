#!/bin/sh
# oneword merge: words of several files in one and back without the change of a byte; names that are taken.
. tests/shell.sh

L=$W/learned
vectors() { # vectors NAME A B: the numbers are the same, byte for byte
    tail -c 512 "$2" >"$T/v1" && tail -c 512 "$3" >"$T/v2"
    same "$1" "$T/v1" "$T/v2"
}
words() { "$F" list "$1" | sort | tr '\n' ';'; }
status merge 0 "$O" merge $L/mango.safetensors $L/comica.safetensors $L/vaso.safetensors -o "$T/all.safetensors"
check "merge: three words" test "$(words "$T/all.safetensors")" = '<comica> F32 [1,128];<mango> F32 [1,128];<vaso> F32 [1,128];'
check "merge: where from" grep -q "^<comica> -> $L/comica.safetensors\$" "$T/out"
status split 0 "$O" merge --split "$T/all.safetensors" -o "$T/split" --json
check "split: JSON" "$F" lines "$T/out"
for w in mango comica vaso; do vectors "split: $w" "$T/split/$w.safetensors" $L/$w.safetensors; done
status "merge again" 0 "$O" merge "$T"/split/vaso.safetensors "$T"/split/comica.safetensors "$T"/split/mango.safetensors -o "$T/again.safetensors"
same "in any order the same file" "$T/all.safetensors" "$T/again.safetensors"
status "a word of it" 0 "$O" generate --model $W/model --embedding "$T/all.safetensors" -p 'a <mango> in the style of <comica>' --steps 1 -W 16 -H 16 \
    -o "$T/p.png" --quiet

# ---- names ----

"$O" merge "<mango>=$L/vaso.safetensors" -o "$T/other.safetensors" >"$T/out" 2>&1
check "another name" test "$(words "$T/other.safetensors")" = '<mango> F32 [1,128];'
no() { # no NAME STATUS PATTERN ARGUMENTS...
    name=$1 want=$2 pattern=$3
    shift 3
    status "$name" "$want" "$O" merge "$@" -o "$T/no"
    says "$name" "$pattern"
    gone "$name" "$T/no"
}
no "a name taken" 2 "mango.safetensors and .*other.safetensors both have the word <mango> .*--rename '<mango>=NEW'" $L/mango.safetensors "$T/other.safetensors"
status renamed 0 "$O" merge $L/mango.safetensors "$T/other.safetensors" --rename '<mango>=<vase>' -o "$T/renamed.safetensors"
check "renamed: the later one" grep -q "^<vase> -> $T/other.safetensors\$" "$T/out"
status "renamed: split" 0 "$O" merge --split "$T/renamed.safetensors" -o "$T/split2"
vectors "renamed: the first one is as it was" "$T/split2/mango.safetensors" $L/mango.safetensors
status numbered 0 "$O" merge $L/mango.safetensors "$T/other.safetensors" "$T/other.safetensors" --auto-rename -o "$T/numbered.safetensors"
check "numbered" test "$(words "$T/numbered.safetensors")" = '<mango-2> F32 [1,128];<mango-3> F32 [1,128];<mango> F32 [1,128];'
"$O" merge "a/b=$L/vaso.safetensors" "a:b=$L/mango.safetensors" "<..>=$L/pipa.safetensors" -o "$T/odd.safetensors" >"$T/out" 2>&1
status "odd names: split" 0 "$O" merge --split "$T/odd.safetensors" -o "$T/odd"
check "odd names" test "$(cd "$T/odd" && echo *)" = '_..safetensors a_b-2.safetensors a_b.safetensors'
"$F" st "$T/two.safetensors" '{"<m>":{"dtype":"F32","shape":[2,128],"data_offsets":[0,1024]}}' 1024
"$F" st "$T/one.safetensors" '{"<m>_1":{"dtype":"F32","shape":[1,128],"data_offsets":[0,512]}}' 512
"$F" st "$T/wide.safetensors" '{"<w>":{"dtype":"F32","shape":[1,768],"data_offsets":[0,3072]}}' 3072
no "the name of a vector" 2 'both have the word <m>_1' "$T/two.safetensors" "$T/one.safetensors"
no "a vector's name, the other way" 2 'both have the word <m> ' "$T/one.safetensors" "$T/two.safetensors"
no "another width" 3 'different models' $L/mango.safetensors "$T/wide.safetensors"
no "to rename what is not there" 2 'no file has the word <x>' $L/mango.safetensors --rename '<x>=<y>'
no "half a renaming" 2 'expected OLD=NEW' $L/mango.safetensors --rename '<mango>'
no "a file that is none" 3 . README.md
no "no file" 2 'is needed'
no "split and a file" 2 'takes no other file' --split "$T/all.safetensors" $L/mango.safetensors
status "no output" 2 "$O" merge $L/mango.safetensors
finish
