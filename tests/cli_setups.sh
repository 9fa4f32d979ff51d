#!/bin/sh
# The setups of `oneword train` that the paper compares: each is the plain run where it is off, each gives the same bytes for
# any threads and across a kill, and what makes no sense is refused.
. tests/shell.sh

E=learned_embeds.safetensors
train() { # train OUTPUT OPTIONS...: 32 pixels keep it short
    out=$1
    shift
    "$O" train --model $W/model --train-data-dir $W/concepts/mango --template-file $W/templates-object.txt --placeholder-token '<m>' \
        --initializer-token cat --train-batch-size 1 --gradient-accumulation-steps 1 --learning-rate 5e-3 --resolution 32 --seed 7 \
        --quiet --threads 1 --output "$out" "$@"
}
fresh() { # fresh OUTPUT OPTIONS...: without the sentences and the start that train() has
    out=$1
    shift
    "$O" train --model $W/model --train-data-dir $W/concepts/mango --placeholder-token '<m>' --train-batch-size 1 \
        --gradient-accumulation-steps 1 --learning-rate 5e-3 --resolution 32 --seed 7 --quiet --threads 1 --output "$out" "$@"
}
words() { "$F" list "$1" | sort | tr '\n' ';'; }

# ---- off is plain ----

status plain 0 train "$T/plain" --max-train-steps 5
off() { # off NAME OPTIONS...
    name=$1
    shift
    status "$name" 0 train "$T/off" --max-train-steps 5 "$@"
    same "$name" "$T/plain/$E" "$T/off/$E"
    rm -rf "$T/off"
}
off "one vector, the regulariser at zero" --num-vectors 1 --embedding-reg-weight 0 --embedding-reg official
off "progressive without a switch" --progressive 1000
off "progressive with two switches to come" --progressive 1000,2000
off "no share of per-image tokens" --per-image-tokens --per-image-share 0
off "truncated, where there is room" --expansion truncated
off "all pictures" --max-pictures 5
off "dvar that does not stop" --early-stop dvar
status "a start without a step's change" 0 train "$T/zero" --max-train-steps 1 --learning-rate 0
status "the start given" 0 fresh "$T/given" --template-file $W/templates-object.txt --max-train-steps 5 --initializer-embedding "$T/zero/$E"
same "the start given" "$T/plain/$E" "$T/given/$E"

# ---- each of them: what it leaves, any threads, a kill ----

# setup NAME STEPS OPTIONS...: the whole run, one with two threads, and one that ends in the middle and is resumed
setup() {
    kind=$1 steps=$2
    shift 2
    status "$kind" 0 train "$T/$kind" --max-train-steps "$steps" "$@"
    check "$kind: another word" sh -c "! cmp -s $T/plain/$E $T/$kind/$E"
    status "$kind: cut" 0 train "$T/cut" --max-train-steps $((steps / 2)) --threads 2 "$@"
    status "$kind: the rest" 0 train "$T/cut" --max-train-steps "$steps" --resume "$@"
    same "$kind: cut and resumed" "$T/$kind/$E" "$T/cut/$E"
    rm -rf "$T/cut"
}
setup progressive 5 --progressive 2,3
check "progressive: three vectors" test "$(words "$T/progressive/$E")" = '<m> F32 [3,128];'
check "progressive: their numbers in the log" test "$(sed -n 's/.*"vectors":\([0-9]\).*/\1/p' "$T/progressive/log.jsonl" | tr -d '\n')" = 11233
status "progressive, ended early" 0 train "$T/early" --progressive 2,100 --max-train-steps 3
check "progressive, ended early: the vectors learned" test "$(words "$T/early/$E")" = '<m> F32 [2,128];'
setup perimage 4 --per-image-tokens --per-image-share 0.5 --save-per-image
check "per-image: all of them" test "$(words "$T/perimage/$E")" = \
    '<m> F32 [1,128];<m>@0 F32 [1,128];<m>@1 F32 [1,128];<m>@2 F32 [1,128];<m>@3 F32 [1,128];<m>@4 F32 [1,128];'
status "per-image: generate" 0 "$O" generate --model $W/model --embedding "$T/perimage/$E" -p 'a photo of a <m> with <m>@3' --steps 1 \
    -o "$T/p.png" --quiet
for i in 0 1 2 3 4; do echo "$i.png: a photo of a {} on the beach"; done >"$T/captions.txt"
sed -i.old 's/3.png: .*/3.png: the <m> in the snow/' "$T/captions.txt"
capture() { fresh "$T/captions" --initializer-token cat --captions "$T/captions.txt" --max-train-steps "$@"; }
status captions 0 capture 4
check "captions: another word" sh -c "! cmp -s $T/plain/$E $T/captions/$E"
sed 's/beach/grass/' "$T/captions.txt" >"$T/other.txt"
cp "$T/other.txt" "$T/captions.txt"
status "resume with other captions" 3 capture 5 --resume
says "resume with other captions" sentences
setup regularised 4 --num-vectors 2 --embedding-reg-weight 10 --embedding-reg official
setup compose 4 --compose $W/concepts/vaso --placeholder-token '<v>' --initializer-token vase --compose-share 0.5 --compose-pictures 2
check "compose: two words" test "$(words "$T/compose/$E")" = '<m> F32 [1,128];<v> F32 [1,128];'
setup dvar 8 --early-stop dvar --early-stop-window 3 --early-stop-threshold 0.01 --max-pictures 2
for preset in paper official; do
    status "preset $preset" 0 fresh "$T/$preset" --preset $preset --initializer-token cat --max-train-steps 1 --num-vectors 2
done
check "the presets differ" sh -c "! cmp -s $T/paper/$E $T/official/$E"

# A window of two and a threshold of one end a run as soon as two losses are nearer to each other than all are.
status "dvar stops" 0 train "$T/stop" --max-train-steps 60 --early-stop dvar --early-stop-window 2 --early-stop-threshold 0.9
n=$("$F" lines "$T/stop/log.jsonl")
check "dvar stops: step $n" test "$n" -lt 60
check "dvar stops: run.json" grep -q "\"stopped_after_step\": $n" "$T/stop/run.json"
cp "$T/stop/$E" "$T/stopped"
status "dvar stopped: resume does nothing" 0 train "$T/stop" --max-train-steps 60 --early-stop dvar --early-stop-window 2 \
    --early-stop-threshold 0.9 --resume
same "dvar stopped: resume does nothing" "$T/stopped" "$T/stop/$E"

# ---- refused ----

status "resume with another switch" 3 train "$T/progressive" --max-train-steps 6 --progressive 2,4 --resume
says "resume with another switch" settings
status "resume without per-image tokens" 3 train "$T/perimage" --max-train-steps 6 --resume
status "resume with another share" 3 train "$T/perimage" --max-train-steps 6 --per-image-tokens --resume
no() { # no NAME STATUS PATTERN OPTIONS...
    name=$1 want=$2 pattern=$3
    shift 3
    status "$name" "$want" fresh "$T/no" --initializer-token cat --max-train-steps 1 "$@"
    says "$name" "$pattern"
    gone "$name" "$T/no"
}
echo '7.png: a {}' >"$T/one.txt"
printf '0.png: a {}\n0.png: the {}\n' >"$T/two.txt"
printf '0.png: a {}\n' >"$T/few.txt"
printf '%s.png: a cat\n' 0 1 2 3 4 >"$T/none.txt"
no "a caption without its picture" 3 'line 1: no picture "7.png"' --captions "$T/one.txt"
no "two captions of one picture" 3 'line 2: a second caption' --captions "$T/two.txt"
no "a picture without its caption" 3 'no caption for 1.png' --captions "$T/few.txt"
no "captions without the word" 2 'does not contain' --captions "$T/none.txt"
no "captions and templates" 2 exclude --captions "$T/captions.txt" --template-file $W/templates-object.txt
no "more vectors than positions" 2 'vectors do not fit' --num-vectors 31
no "progressive that does not rise" 2 'rising' --progressive 4,4
no "progressive from step 0" 2 'rising' --progressive 0
no "progressive of text" 2 'rising' --progressive 2,x
no "fewer vectors than switches" 2 'makes 3 vectors' --progressive 2,4 --num-vectors 2
no "compose with one word" 2 'placeholder-token twice' --compose $W/concepts/vaso
no "a share of nothing" 2 'of --compose' --compose-share 0.2
no "per-image tokens of nothing" 2 'of --per-image-tokens' --save-per-image
no "a window of nothing" 2 'of --early-stop' --early-stop-window 5
no "two starts" 2 exclude --initializer-embedding "$T/zero/$E"
status "a start of other vectors" 2 fresh "$T/no" --initializer-embedding "$T/zero/$E" --num-vectors 2
says "a start of other vectors" 'expected 2 of 128'
finish
