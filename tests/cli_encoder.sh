#!/bin/sh
# oneword encoder: untrained it gives the word of the kind; the same bytes for any threads and across a kill; refusals.
. tests/shell.sh

head -n 10 $W/entities.txt >"$T/names" # nine of them
study() { # study OUTPUT OPTIONS...
    out=$1
    shift
    "$O" encoder train --model $W/model --clip $W/clip --names "$T/names" --pictures 2 --sampling-steps 1 --hidden 8 --train-batch-size 2 \
        --hold-out 2 --max-train-steps 3 --diffusion-steps 2 --threads 1 --quiet -o "$out" "$@"
}
apply() { # apply ENCODER OUTPUT OPTIONS...
    encoder=$1 out=$2
    shift 2
    "$O" encoder apply --model $W/model --clip $W/clip --encoder "$encoder" --train-data-dir $W/concepts/mango --initializer-token cat \
        --placeholder-token '<m>' --quiet -o "$out" "$@"
}
status train 0 study "$T/a"
check "stdout is the path of the result" test "$(cat "$T/out")" = "$T/a"
status "other threads" 0 study "$T/b" --threads 2 --examples "$T/b.seen"
same "other threads" "$T/a" "$T/b"
same "other threads: what was seen" "$T/a.examples" "$T/b.seen"
status "what was seen is used again" 0 study "$T/c" --examples "$T/b.seen" --json
same "what was seen is used again" "$T/a" "$T/c"
check "JSON" grep -q '"held_out":2,"part_of_kinds_error":' "$T/out"
status "untrained" 0 study "$T/new" --examples "$T/b.seen" --max-train-steps 0 --diffusion-steps 0
status "apply, untrained" 0 apply "$T/new" "$T/new.word"
status "the word of the kind" 0 "$O" train --model $W/model --train-data-dir $W/concepts/mango --template-file $W/templates-object.txt \
    --placeholder-token '<m>' --initializer-token cat --learning-rate 0 --max-train-steps 1 --resolution 32 --quiet --output "$T/kind"
same "the word of the kind" "$T/new.word" "$T/kind/learned_embeds.safetensors"
status apply 0 apply "$T/a" "$T/a.word"
check "another word" sh -c "! cmp -s $T/a.word $T/new.word"
status "go on from it" 0 "$O" train --model $W/model --train-data-dir $W/concepts/mango --template-file $W/templates-object.txt \
    --placeholder-token '<m>' --initializer-embedding "$T/a.word" --max-train-steps 1 --resolution 32 --quiet --output "$T/on"

status "other pictures than were seen" 3 study "$T/no" --examples "$T/b.seen" --pictures 1
says "other pictures than were seen" 'other settings'
status "another kind" 0 apply "$T/a" "$T/fish.word" --initializer-token fish
status "not a kind" 2 apply "$T/a" "$T/no" --initializer-token 'two words'
says "not a kind" 'not one token'
status "not an encoder" 3 apply $W/learned/mango.safetensors "$T/no"
status "of another model" 3 apply "$T/a" "$T/no" --clip testdata/golden/tiny-clip
echo 'cat' >>"$T/names"
status "a name without a kind" 3 study "$T/no"
says "a name without a kind" 'line 11: expected a name'
sed '$d' "$T/names" >"$T/few" && sed -i.old '$s/.*/notaword cat/' "$T/few"
status "not a name" 2 study "$T/no" --names "$T/few"
says "not a name" '"notaword" is not one token'
status "everything held out" 2 study "$T/no" --names "$T/few" --hold-out 9
status "neither" 2 "$O" encoder
status "both" 2 "$O" encoder train apply
gone "nothing begun" "$T/no" "$T/no.examples"
finish
