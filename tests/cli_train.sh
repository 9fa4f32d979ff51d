#!/bin/sh
# oneword train on the bundled model: the same bytes for any threads and instruction set and across kills, signals, what a run
# leaves, what it refuses.
. tests/shell.sh

mkdir "$T/one" && cp $W/concepts/mango/0.png "$T/one/"
E=learned_embeds.safetensors
# train OUTPUT OPTIONS...: a small run; 32 pixels keep it short. run=exec in the background, so that a signal reaches the program.
run=
train() {
    out=$1
    shift
    $run "$O" train --model $W/model --train-data-dir $W/concepts/mango --template-file $W/templates-object.txt --placeholder-token '<m>' \
        --initializer-token cat --train-batch-size 1 --gradient-accumulation-steps 1 --learning-rate 5e-3 --resolution 32 --seed 7 \
        --quiet --threads 1 --output "$out" "$@"
}

# ---- one result ----

status "a run" 0 train "$T/a" --max-train-steps 8
check "stdout is the path of the result" test "$(cat "$T/out")" = "$T/a/$E"
check "the file as diffusers writes it" test "$("$F" list "$T/a/$E")" = "<m> F32 [1,128]"
check "log.jsonl is JSON" test "$("$F" lines "$T/a/log.jsonl")" = 8
check "run.json is JSON" grep -q '"seed": 7' "$T/a/run.json"
for n in 2 3 7; do
    status "$n threads" 0 train "$T/t$n" --max-train-steps 8 --threads $n
    same "$n threads" "$T/a/$E" "$T/t$n/$E"
done
status "one step" 0 train "$T/b" --train-data-dir "$T/one" --max-train-steps 1
for isa in scalar avx2 avx512 neon; do
    status "$isa" '0|4' train "$T/$isa" --train-data-dir "$T/one" --max-train-steps 1 --isa $isa
    [ $got = 4 ] || same "$isa" "$T/b/$E" "$T/$isa/$E"
done
for m in fast mid low 25M 0.01; do
    status "--memory $m" '0|5' train "$T/memory$m" --max-train-steps 8 --memory $m
    [ $got = 5 ] || same "--memory $m" "$T/a/$E" "$T/memory$m/$E"
done
status "too little memory" 5 train "$T/memory1" --max-train-steps 8 --memory 0.001
says "too little memory" "needs at least .* MiB"
gone "too little memory" "$T/memory1"
status "--memory that is none" 2 train "$T/memory1" --max-train-steps 8 --memory much

# ---- killed and resumed ----

status "whole" 0 train "$T/whole" --max-train-steps 60 --checkpointing-steps 4
kills=0
for lines in 1 6 11 19 33 52; do # kill when the log has so many lines more
    have=$(cat "$T/cut/log.jsonl" 2>/dev/null | wc -l)
    { run=exec && train "$T/cut" --max-train-steps 60 --checkpointing-steps 4 --resume >/dev/null 2>&1; } &
    pid=$!
    while kill -0 $pid 2>/dev/null && [ $(($(cat "$T/cut/log.jsonl" 2>/dev/null | wc -l) - have)) -lt $lines ]; do pause; done
    kill -9 $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null
done
check "killed at least twice" test $kills -ge 2
status "the rest" 0 train "$T/cut" --max-train-steps 60 --checkpointing-steps 4 --resume
same "killed $kills times" "$T/whole/$E" "$T/cut/$E"
check "log.jsonl after kills is JSON" "$F" lines "$T/cut/log.jsonl"

# A signal: checkpoint, then 128 + signal.
signalled() { # signalled NAME NUMBER
    { run=exec && train "$T/$1" --max-train-steps 60 --checkpointing-steps 1000 >"$T/out" 2>"$T/err"; } &
    pid=$!
    while kill -0 $pid 2>/dev/null && [ ! -s "$T/$1/log.jsonl" ]; do pause; done
    kill -"$1" $pid
    wait $pid
    got=$?
    check "SIG$1: exit $got" test $got = $((128 + $2))
    check "SIG$1: checkpoint" test -s "$T/$1/checkpoint.safetensors"
    gone "SIG$1" "$T/$1/$E"
    status "SIG$1: resume" 0 train "$T/$1" --max-train-steps 60 --resume
    same "SIG$1" "$T/whole/$E" "$T/$1/$E"
}
signalled TERM 15
# A shell that runs a job in the background lets it ignore SIGINT; an interactive one does not, and neither does env.
if env --default-signal=INT true 2>/dev/null; then
    env --default-signal=INT "$O" train --model $W/model --train-data-dir "$T/one" --placeholder-token '<m>' --initializer-token cat \
        --template-file $W/templates-object.txt --resolution 32 --max-train-steps 100000 --output "$T/INT" >/dev/null 2>&1 &
    pid=$!
    while kill -0 $pid 2>/dev/null && [ ! -s "$T/INT/log.jsonl" ]; do pause; done
    kill -INT $pid
    wait $pid
    got=$?
    check "SIGINT: exit $got" test $got = 130
    check "SIGINT: checkpoint" test -s "$T/INT/checkpoint.safetensors"
fi

status "resume with another rate" 3 train "$T/whole" --max-train-steps 61 --learning-rate 1e-3 --resume
says "resume with another rate" settings
status "resume with another seed" 3 train "$T/whole" --max-train-steps 61 --seed 8 --resume
status "resume with other pictures" 3 train "$T/whole" --max-train-steps 61 --train-data-dir "$T/one" --resume
says "resume with other pictures" pictures
same "refused, nothing touched" "$T/whole/$E" "$T/cut/$E"
cp -R "$T/a" "$T/longer"
cp "$T/a/checkpoint.safetensors" "$T/stored.safetensors"
status "from a checkpoint file" 0 train "$T/elsewhere" --max-train-steps 60 --resume-from-checkpoint "$T/stored.safetensors"
same "from a checkpoint file" "$T/whole/$E" "$T/elsewhere/$E"
status "a finished run made longer" 0 train "$T/longer" --max-train-steps 60 --resume
same "a finished run made longer" "$T/whole/$E" "$T/longer/$E"
"$F" put "$T/longer/checkpoint.safetensors" -600 'garbage'
status "a checkpoint of which bytes changed" '0|3|8' train "$T/longer" --max-train-steps 61 --resume
head -c 500 "$T/whole/checkpoint.safetensors" >"$T/longer/checkpoint.safetensors"
status "a cut checkpoint" 3 train "$T/longer" --max-train-steps 61 --resume

# ---- seed ----

unseeded() { train "$T/seed" --seed -1 --max-train-steps "$@"; }
status "a random seed" 0 unseeded 2
status "is stored" 0 unseeded 4 --resume
seed=$(sed -n 's/.*"seed": \([0-9]*\).*/\1/p' "$T/seed/run.json")
status "the seed given" 0 train "$T/seed2" --seed "$seed" --max-train-steps 4
same "the stored seed" "$T/seed/$E" "$T/seed2/$E"
check "another seed, another word" sh -c "! cmp -s $T/seed2/$E $T/seed/checkpoint.safetensors"

# ---- settings ----

status "dry run" 0 train "$T/dry" --max-train-steps 8 --dry-run
gone "dry run" "$T/dry"
status "two words of two vectors" 0 train "$T/two" --placeholder-token '<n>' --initializer-token dog --num-vectors 2 --max-train-steps 2 \
    --learning-rate 5e-3:1,1e-3
check "two words of two vectors" test "$("$F" list "$T/two/$E" | sort | tr '\n' ';')" = '<m> F32 [2,128];<n> F32 [2,128];'
check "piecewise rates" grep -q '"step":2.*"lr":0.001,' "$T/two/log.jsonl"
status "validation pictures" 0 train "$T/val" --max-train-steps 2 --validation-prompt 'a photo of <m>' --validation-steps 2 \
    --num-validation-images 1 --save-steps 1
check "validation pictures" test -s "$T/val/val-step000002-0.png"
check "words on the way" test -s "$T/val/learned_embeds-steps-1.safetensors"
for o in --scale-lr '--lr-scheduler cosine --lr-warmup-steps 1' '--max-grad-norm 1e-4' '--embedding-reg-weight 1' --posterior-mean --no-flip \
    '--gradient-accumulation-steps 2' '--train-batch-size 2' --center-crop; do
    # shellcheck disable=SC2086
    status "$o" 0 train "$T/o" $o --max-train-steps 3
    case $o in
    --scale-lr | --center-crop) ;; # the same here: batch 1, square pictures
    *) check "$o changes the result" sh -c "! cmp -s $T/o/checkpoint.safetensors $T/base3" ;;
    esac
    cp "$T/o/checkpoint.safetensors" "$T/base3"
    rm -rf "$T/o"
done

# ---- a system that refuses ----

status "output below a file" 6 train "$T/one/0.png/x" --max-train-steps 1
mkdir "$T/occupied" && mkdir "$T/occupied/$E"
status "a folder where the result goes" 6 train "$T/occupied" --max-train-steps 1
if (ulimit -f 1) 2>/dev/null; then # blocks of 512 bytes
    limited() {
        (
            ulimit -f 1
            train "$T/full" --max-train-steps 2
        )
    }
    status "a full disk" 6 limited
    gone "a full disk" "$T/full/$E" "$T/full"/.*tmp*
fi
finish
