#!/bin/sh
# Bad files, options and systems through the program: the exit status, one line that says what is wrong, nothing left behind. The
# parsers themselves are tried harder in test_safetensors, test_json, test_png, test_tokenizer and test_sys.
. tests/shell.sh

M=$T/m
cp -R $W/model "$M" && rm -rf "$M/cases"
# gen OPTIONS...: a short generation, --model first so that tests can name another
gen() { "$O" generate --model "$M" -p 'a photo of a cat' --steps 1 -W 16 -H 16 --seed 1 --quiet --threads 1 -o "$T/bad.png" "$@"; }
tra() {
    "$O" train --model $W/model --template-file $W/templates-object.txt --placeholder-token '<m>' --initializer-token cat \
        --max-train-steps 1 --resolution 16 --quiet --threads 1 --train-data-dir $W/concepts/mango --output "$T/badout" "$@"
}
status "the unharmed model" 0 gen
rm "$T/bad.png"

# ---- command line ----

cli() { # cli NAME OPTIONS...: exit 2
    name=$1
    shift
    status "$name" 2 gen "$@"
}
for v in 0 -1 1e9 ' 5x' 0x10 99999999999999999999 '' '5 ' 1.5; do cli "steps '$v'" --steps "$v"; done
for v in nan inf -inf 1,5 1e400 0x1p3 '' x -1; do cli "cfg-scale '$v'" --cfg-scale "$v"; done
for v in 63 0 -64 99999999; do cli "width $v" -W $v; done
says "width" 'width'
cli "unknown option" --stepz 3
says "unknown option" 'did you mean --steps'
cli "missing argument" --steps
cli "unknown sampler" --sampler fancy
cli "argument too many" picture.png
cli "eta" --eta 2
status "no command" 2 "$O" nothing
status "unknown command" 2 "$O" trian
says "unknown command" train
status "no prompt" 2 "$O" generate --model "$M" -o "$T/bad.png"
status "no model" '2|3|6' gen --model "$T/nowhere"
status "unknown instruction set" '2|4' gen --isa sse9
for v in nan inf 1,5 -1 '' 1e-3:5:6; do status "learning rate '$v'" 2 tra --learning-rate "$v"; done
# A locale with a decimal comma changes nothing.
LC_ALL=de_DE.UTF-8 gen --cfg-scale 1.5 -o "$T/de.png" >"$T/out" 2>&1
gen --cfg-scale 1.5 -o "$T/en.png" >"$T/out" 2>&1
same "a decimal comma" "$T/de.png" "$T/en.png"
for n in 1 1000; do
    OMP_NUM_THREADS=$n gen --cfg-scale 1.5 -o "$T/omp.png" --threads 0 >"$T/out" 2>&1
    same "OMP_NUM_THREADS=$n" "$T/omp.png" "$T/en.png"
done

# ---- prompts ----

prompt() { # prompt NAME STATUS TEXT
    status "prompt: $1" "$2" gen -p "$3"
    rm -f "$T/bad.png"
}
prompt empty 0 ''
prompt 'invalid UTF-8' 2 "$(printf 'a \377 cat')"
prompt 'cut UTF-8' 2 "$(printf 'a \342\202')"
prompt 'marks, right to left, joiners' 0 "$(printf 'e\314\201 \327\251\327\234 \360\237\221\251\342\200\215\360\237\224\254 \304\260 '"'")"
"$F" repeat 'cat ' 30000 >"$T/long" # one argument of the command line may have 128 KiB
prompt 'of 120 KB' 0 "$(cat "$T/long")"
prompt 'escape sequences' '0|3' "$(printf 'a \033[31mcat')"
status "tokenize invalid UTF-8" 2 "$O" tokenize --model "$M" "$(printf '\200')"
for p in cat '' '<a b>' '<start_of_text>' '<|endoftext|>'; do status "placeholder '$p'" 2 tra --placeholder-token "$p"; done
status "placeholder that is not UTF-8" '2|3' tra --placeholder-token "$(printf '<\377>')"
status "the same placeholder twice" 2 tra --placeholder-token '<m>' --initializer-token dog
status "initializer of three tokens" 2 tra --initializer-token 'cat dog fish'
status "76 vectors" 2 tra --num-vectors 76
status "75 vectors" 2 tra --num-vectors 75
gone "refused words" "$T/badout/learned_embeds.safetensors" "$T/bad.png"

# ---- weights ----

U=$M/unet/diffusion_pytorch_model.safetensors
cp "$U" "$T/u"
weights() { # weights NAME STATUS: a generation with the file as it is now; then the good one is put back
    status "weights: $1" "$2" gen
    gone "weights: $1" "$T/bad.png"
    cp "$T/u" "$U"
}
head_of() { # head_of BYTES: the 8 bytes of the header's length
    "$F" put "$U" 0 "$1"
}
: >"$U" && weights 'empty' 3
printf 'short..' >"$U" && weights '7 bytes' 3
head_of '\0\0\0\0\0\0\0\0' && weights 'header of 0' 3
head_of '\x01\0\0\0\0\0\0\0' && weights 'header of 1' 3
head_of '\0\0\0\0\0\0\0\x80' && weights 'header of 2^63' 3
head_of '\xff\xff\xff\xff\xff\xff\xff\xff' && weights 'header of 2^64-1' 3
head_of '\x01\xe1\xf5\x05\0\0\0\0' && weights 'header of 100000001' 3
head -c 100000 "$T/u" >"$U" && weights 'cut in the header or data' 3
head -c $(($(wc -c <"$T/u") - 1)) "$T/u" >"$U" && weights 'one byte short' 3
printf 'x' >>"$U" && weights 'one byte more' 3
"$F" put "$U" 8 'x' && weights 'no object' 3
"$F" put "$U" 8 '\xff' && weights 'header not UTF-8' 3
"$F" edit "$U" '"F16"' '"Q16"' && weights 'unknown type' '3|4'
"$F" edit "$U" '"data_offsets":[0,' '"data_offsets":[2,' && weights 'a hole' 3
"$F" edit "$U" '"conv_in.bias"' '"conv_in.BIAS"' && weights 'a renamed tensor' 3
says 'a renamed tensor' 'conv_in\.(bias|BIAS)'
"$F" edit "$U" '"conv_in.bias"' '"conv_\\u001b[31m\\u0007"' 2>/dev/null && weights 'a name with escapes' 3
"$F" drop "$U" conv_in.weight && weights 'a missing tensor' 3
says 'a missing tensor' 'conv_in\.weight'
"$F" twice "$U" conv_in.weight && weights 'an extra tensor' 3
says 'an extra tensor' 'an\.extra\.tensor'
"$F" flat "$U" conv_in.weight && weights 'a misshapen tensor' 3
says 'a misshapen tensor' 'conv_in\.weight'
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n' >"$U" && weights 'an LFS pointer' 3
says 'an LFS pointer' 'LFS'
printf '<!DOCTYPE html><html>Not Found</html>' >"$U" && weights 'a web page' 3
rm "$U" && mkdir "$U" && status 'weights: a folder' '3|6' gen && rmdir "$U"
if mkfifo "$U" 2>/dev/null; then
    status 'weights: a pipe' '3|6' gen
    rm "$U"
fi
ln -s /dev/zero "$U" && status 'weights: a device' '3|6' gen && rm "$U"
cp "$T/u" "$U"
for v in nan inf; do
    "$F" poke "$U" conv_in.weight $v && weights "$v in the UNet" 8
    says "$v in the UNet, found at once" 'not finite after step 1'
done
V=$M/vae/diffusion_pytorch_model.safetensors
cp "$V" "$T/v"
"$F" poke "$V" decoder.conv_in.weight nan && status 'weights: nan in the decoder' 8 gen && gone 'nan in the decoder' "$T/bad.png"
cp "$T/v" "$V"
"$F" poke "$U" conv_in.weight nan && status 'training on nan' 8 tra --model "$M" && gone 'training on nan' "$T/badout/learned_embeds.safetensors"
says 'training on nan' 'loss is not finite'
cp "$T/u" "$U"

# ---- learned words ----

word() { # word NAME STATUS HEADER BYTES
    "$F" st "$T/w.safetensors" "$3" "$4"
    status "word: $1" "$2" gen --embedding "$T/w.safetensors" -p 'a <x>'
    gone "word: $1" "$T/bad.png"
}
word 'too wide' '3|4' '{"<x>":{"dtype":"F32","shape":[768],"data_offsets":[0,3072]}}' 3072
says 'too wide' '768'
word 'of no vectors' 3 '{"<x>":{"dtype":"F32","shape":[0,128],"data_offsets":[0,0]}}' 0
word 'of integers' '3|4' '{"<x>":{"dtype":"I64","shape":[1,128],"data_offsets":[0,1024]}}' 1024
word 'with a product that wraps' 3 '{"<x>":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}' 0
word 'twice' 3 '{"<x>":{"dtype":"F32","shape":[128],"data_offsets":[0,512]},"<x>":{"dtype":"F32","shape":[128],"data_offsets":[0,512]}}' 512
word 'with bytes that overlap' 3 '{"<x>":{"dtype":"F32","shape":[128],"data_offsets":[0,512]},"<y>":{"dtype":"F32","shape":[128],"data_offsets":[0,512]}}' 512
word 'with swapped offsets' 3 '{"<x>":{"dtype":"F32","shape":[128],"data_offsets":[512,0]}}' 512
word 'with a negative size' 3 '{"<x>":{"dtype":"F32","shape":[-128],"data_offsets":[0,512]}}' 512
word 'with a size in exponents' 3 '{"<x>":{"dtype":"F32","shape":[128e0],"data_offsets":[0,512]}}' 512
word 'without a shape' 3 '{"<x>":{"dtype":"F32","data_offsets":[0,512]}}' 512
word 'whose header is an array' 3 '[]' 0
word 'whose header does not end' 3 '{"<x>":{"dtype":"F32"' 0
word 'in metadata that is no text' 3 '{"__metadata__":{"a":1},"<x>":{"dtype":"F32","shape":[128],"data_offsets":[0,512]}}' 512
word 'with a name that drives terminals' '2|3' '{"\u001b[2J<x>":{"dtype":"F32","shape":[128,2,2],"data_offsets":[0,2048]}}' 2048
status "word: inspect a name that drives terminals" '0|3' "$O" inspect "$T/w.safetensors"
check "escapes in names stay escaped" test "$(LC_ALL=C tr -d '\n\040-\176\200-\377' <"$T/out" | wc -c)" = 0
status "word: a PNG" '3|4' gen --embedding $W/concepts/mango/0.png
status "word: not there" '3|6' gen --embedding "$T/nowhere.safetensors"

# ---- configurations ----

config() { # config NAME FILE STATUS SED: the model with one edit
    cp "$M/$2" "$T/j"
    sed "$4" "$T/j" >"$M/$2"
    cmp -s "$T/j" "$M/$2" && fail "config: $1: nothing was changed"
    status "config: $1" "$3" gen
    gone "config: $1" "$T/bad.png"
    cp "$T/j" "$M/$2"
}
C=unet/config.json
config 'unknown activation' $C '3|4' 's/"act_fn": "silu"/"act_fn": "mish"/'
config 'other channels' $C '3|4' 's/96/97/'
config 'no channels' $C 3 's/"block_out_channels": \[/"block_out_channels": [], "x": [/'
config 'heads of 0' $C 3 's/"attention_head_dim": [0-9]*/"attention_head_dim": 0/'
config 'heads of -8' $C 3 's/"attention_head_dim": [0-9]*/"attention_head_dim": -8/'
config 'heads of 7' $C 3 's/"attention_head_dim": [0-9]*/"attention_head_dim": 7/'
config 'heads of 1e9' $C 3 's/"attention_head_dim": [0-9]*/"attention_head_dim": 1000000000/'
config 'other context' $C 3 's/"cross_attention_dim": [0-9]*/"cross_attention_dim": 768/'
config 'unknown block' $C '3|4' 's/"CrossAttnDownBlock2D"/"StrangeDownBlock2D"/'
config 'null for a number' $C 3 's/"in_channels": [0-9]*/"in_channels": null/'
config 'a text for a number' $C 3 's/"in_channels": [0-9]*/"in_channels": "four"/'
config '1e400' $C 3 's/"norm_eps": [0-9.e-]*/"norm_eps": 1e400/'
config 'a plus' $C 3 's/"in_channels": /"in_channels": +/'
config 'a leading zero' $C 3 's/"in_channels": /"in_channels": 0/'
config 'the same key twice' $C '0|3' 's/"in_channels": \([0-9]*\)/"in_channels": \1, "in_channels": 77/'
config 'a lone surrogate' $C 3 's/"silu"/"\\ud800"/'
config 'cut' $C 3 '5,$d'
S=scheduler/scheduler_config.json
config 'no timesteps' $S 3 's/"num_train_timesteps": [0-9]*/"num_train_timesteps": 0/'
config '2^31 timesteps' $S '3|5' 's/"num_train_timesteps": [0-9]*/"num_train_timesteps": 2147483648/'
config 'beta beyond 1' $S 3 's/"beta_end": [0-9.e-]*/"beta_end": 1.5/'
config 'unknown prediction' $S '3|4' 's/"prediction_type": "[a-z_]*"/"prediction_type": "magic"/'
"$F" repeat '[' 100000 >"$M/$S.new" && mv "$M/$S" "$T/s" && mv "$M/$S.new" "$M/$S" && status 'config: 100000 deep' 3 gen
cp "$T/s" "$M/$S"
config 'not a pipeline of images' model_index.json '3|4' 's/"_class_name": "[A-Za-z]*"/"_class_name": "AudioPipeline"/'
# Shards: names that climb out of the folder, or lead nowhere.
mv "$U" "$T/u"
for name in ../../etc/passwd /etc/passwd diffusion_pytorch_model-1.safetensors; do
    printf '{"weight_map":{"conv_in.weight":"%s"}}' "$name" >"$U.index.json"
    status "shard $name" '3|6' gen
done
rm "$U.index.json"
status 'no weights' '3|6' gen
cp "$T/u" "$U"

# ---- tokenizer ----

K=tokenizer
config 'vocabulary cut' $K/vocab.json 3 's/}$//'
config 'an id twice' $K/vocab.json 3 's/": 300\([,}]\)/": 301\1/'
config 'an id below 0' $K/vocab.json 3 's/": 300\([,}]\)/": -300\1/'
config 'an id beyond the table' $K/vocab.json 3 's/": 300\([,}]\)/": 30000000\1/'
config 'a merge of one' $K/merges.txt 3 '5s/.*/lonely/'
config 'a merge of three' $K/merges.txt 3 '5s/.*/a b c/'
config 'no merges' $K/merges.txt 3 '1,$d'

# ---- pictures ----

mkdir "$T/pics" "$T/none"
picture() { # picture NAME STATUS: trains on pics/0.png
    status "picture: $1" "$2" tra --train-data-dir "$T/pics"
    gone "picture: $1" "$T/badout/learned_embeds.safetensors"
    status "encode: $1" "$2" "$O" encode --model $W/model -o "$T/latent.safetensors" --quiet "$T/pics/0.png"
    gone "encode: $1" "$T/latent.safetensors"
    cp $W/concepts/mango/0.png "$T/pics/0.png"
}
P=$T/pics/0.png
head -c 900 $W/concepts/mango/0.png >"$P" && picture 'cut' 3
: >"$P" && picture 'empty' 3
cp $W/concepts/mango/0.png "$P"
"$F" put "$P" 1 'X' && picture 'no PNG' '3|4'
"$F" put "$P" 16 '\0\0\0\0' && picture 'width 0 and a wrong checksum' 3
"$F" put "$P" 29 'abcd' && picture 'a wrong checksum' 3
"$F" put "$P" -16 'abcd' && picture 'a wrong checksum of the data' 3
"$F" edit "$P" 'IEND' 'JEND' && picture 'no end' 3
"$F" edit "$P" 'IDAT' 'IDAX' && picture 'no data' 3
printf '\377\330\377\340\0\020JFIF' >"$P" && picture 'JPEG' 4
printf 'P6 65535 65535 255\n' >"$P" && picture 'a PPM that claims' '3|5'
printf 'P6 -1 1 255\n' >"$P" && picture 'a PPM of width -1' 3
status 'no pictures' '2|3' tra --train-data-dir "$T/none"
status 'no such folder' '3|6' tra --train-data-dir "$T/nowhere"
status 'a file for a folder' '2|3|6' tra --train-data-dir "$P"
"$F" ppm "$T/none/tall.ppm" 1 300 && status 'one tall picture' 0 tra --train-data-dir "$T/none" --output "$T/tall"
"$O" encode --model $W/model -o "$T/x.safetensors" --quiet --resolution 16 $W/concepts/mango/0.png >"$T/out" 2>&1
"$F" poke "$T/x.safetensors" latent nan && status 'decode nan' '3|8' "$O" decode --model $W/model --quiet -o "$T/bad.png" "$T/x.safetensors"
status 'decode a picture' '3|4' "$O" decode --model $W/model --quiet -o "$T/bad.png" "$P"
status 'from a picture without a recipe' '2|3' gen --from-image "$P"
gone 'pictures' "$T/bad.png"
printf 'no place for the word\n' >"$T/sentences" && status 'sentences without {}' 3 tra --template-file "$T/sentences"
: >"$T/sentences" && status 'no sentences' 3 tra --template-file "$T/sentences"

# ---- a system that refuses ----

status 'unwritable' 6 gen -o /proc/nowhere/x.png
mkdir "$T/folder.png" && status 'a folder where the picture goes' '2|6' gen -o "$T/folder.png"
mkfifo "$T/pipe.png" 2>/dev/null && status 'a pipe where the picture goes' '2|6' gen -o "$T/pipe.png" && check 'the pipe is still one' test -p "$T/pipe.png"
if (ulimit -f 1) 2>/dev/null; then # blocks of 512 bytes
    status 'a full disk' 6 sh -c "ulimit -f 1; exec $O generate --model $M -p cat --steps 1 -W 64 -H 64 --quiet -o $T/bad.png"
    gone 'a full disk' "$T/bad.png" "$T"/.bad*
fi
case $B in
*asan*) ;; # sanitizers need address space
*)
    for kib in 15000 20000 30000; do
        status "$kib KiB of memory" 5 sh -c "ulimit -v $kib; exec $O generate --model $M -p cat --steps 1 -W 64 -H 64 --threads 1 --quiet -o $T/bad.png"
        gone "$kib KiB of memory" "$T/bad.png"
    done
    ;;
esac
"$O" inspect $W/model >/dev/full 2>"$T/err"
check "a full stdout is no crash" test $? -lt 128
"$O" generate --model "$M" -p cat --steps 1 -W 16 -H 16 --quiet -o "$T/fine.png" 2>&- >&-
check "closed stdout and stderr: no crash" test $? -lt 128
finish
