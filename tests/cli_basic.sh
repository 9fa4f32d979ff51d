#!/bin/sh
# The command line: help, usage errors, and what generate, encode, decode, tokenize and inspect do with good and bad input.
# Bad input must give its exit status and at most six lines on stderr, and leave nothing behind.
. tests/shell.sh
M=testdata/world/model
E=testdata/world/learned/mango.safetensors

holds() { # NAME FILE PATTERN
    grep -q -e "$3" "$2"
    result "$1" $?
}

# ---- the program ----
good help help
holds "help lists commands" "$T/out" generate
good version --version --json
holds "version names kernels" "$T/out" '"kernels_available":\["scalar"'
for c in generate encode decode tokenize inspect; do
    good "$c --help" $c --help
    holds "$c --help has usage" "$T/out" "^usage: oneword $c"
    bad "$c: unknown option" 2 'unknown option --jsno.*--json' $c --jsno
    bad "$c: nothing given" 2 'is needed' $c
done
run
holds "no command: usage" "$T/err" 'usage: oneword COMMAND'
bad "unknown command" 2 'did you mean generate' generat
bad "-s has two meanings" 2 'ambiguous' generate -s 3
bad "unexpected argument" 2 'unexpected argument' generate cat

# ---- generate ----
G="generate --model $M --steps 2 --cfg-scale 4 --seed 5"
good generate $G -p 'a photo of a cat' -W 32 -H 64 -o "$T/a.png"
holds "prints the path" "$T/out" "^$T/a.png\$"
holds "parameters in A1111's layout" "$T/a.png" '^Steps: 2, Sampler: DDIM, CFG scale: 4, Seed: 5, Size: 32x64, Model hash: [0-9a-f]\{10\}, Model: model, Version: oneword'
good "other spellings" txt2img --pretrained_model_name_or_path=$M --steps 2 -g 4 -S 5 --prompt 'a photo of a cat' --width=32 -H 64 -q -t 1 -o "$T/b.png"
same "one thread, the same bytes" "$T/a.png" "$T/b.png"
good "scalar kernels" $G -p 'a photo of a cat' -W 32 -H 64 --isa scalar -o "$T/b.png"
same "scalar kernels, the same bytes" "$T/a.png" "$T/b.png"
good "from its metadata" generate --model $M --from-image "$T/a.png" -o "$T/b.png"
same "the same picture again" "$T/a.png" "$T/b.png"
good "a forced form of convolution" $G -p 'a photo of a cat' -W 32 -H 64 --conv winograd -o "$T/c.png"
holds "is in its metadata" "$T/c.png" '"conv":"winograd"'
good "and comes back from there" generate --model $M --from-image "$T/c.png" -o "$T/b.png"
same "to the same picture" "$T/c.png" "$T/b.png"
good "an option wins over metadata" generate --model $M --from-image "$T/a.png" --seed 6 -o "$T/b.png"
holds "with the other seed" "$T/b.png" 'Seed: 6, Size: 32x64'

good batch $G -p 'a <mango>' --embedding "$E" -n 'a dog' -W 16 -H 16 -b 3 --eta 0.5 --json -o "$T/n.png"
holds "JSON line" "$T/out" '{"file":".*n-2.png","seed":7,"seconds":'
holds "metadata of learned words" "$T/n-1.png" 'Eta: 0.5, TI hashes: "<mango>: [0-9a-f]\{12\}"'
good "numbered" $G -p 'a <mango>' --embedding "$E" -n 'a dog' -W 16 -H 16 -b 2 --eta 0.5 --seed 6 -o "$T/x%03d.png"
same "a batch equals single runs" "$T/n-1.png" "$T/x000.png"
same "each with its own seed" "$T/n-2.png" "$T/x001.png"
good "repeat with the word missing" generate --model $M --from-image "$T/n-1.png" -o "$T/b.png"
holds "warns of the missing word" "$T/err" 'made with the learned word <mango>'
good "another name" $G -p 'a <fruit>' --embedding "<fruit>=$E" -W 16 -H 16 -o "$T/b.png"
holds "no warning then" "$T/b.png" 'TI hashes: "<fruit>'
good "ddpm, no guidance, PPM" generate --model $M -p cat --sampler ddpm --cfg-scale 1 --steps 2 -W 8 -H 8 --seed 1 --no-metadata -o "$T/c.ppm"
holds "PPM" "$T/c.ppm" '^P6'
good "no metadata" $G -p cat -W 8 -H 8 --no-metadata -o "$T/c.png"
! grep -q 'parameters' "$T/c.png"
result "no metadata in it" $?
good "random seed" generate --model $M -p cat --steps 1 -W 8 -H 8 -o "$T/c.png"
holds "random seed is said" "$T/err" '^seed [0-9]'

good "words unknown" $G -p 'a photo of a zebra' --embedding "$E" -W 8 -H 8 -o "$T/c.png"
holds "unknown word" "$T/err" 'small vocabulary.*zebra'
holds "unused word" "$T/err" 'does not contain the learned word <mango>'
good "near miss" $G -p 'a <MANGO>' --embedding "$E" -W 8 -H 8 -o "$T/c.png"
holds "near miss is said" "$T/err" '"<MANGO>" is not the word <mango>'
long='a photo of a red cat on the beach and a photo of a red cat on the beach and a photo of a red cat on the beach near the very last dog'
good "long prompt" $G -p "$long" -W 8 -H 8 -o "$T/c.png"
holds "lost part is said" "$T/err" 'no effect: ".*last dog"'

bad "a learned word would be lost" 2 '<mango>' $G -p "$long <mango>" --embedding "$E" -W 8 -H 8 -o "$T/bad.png"

rm -f "$T"/*.png
bad "no such model" 6 nowhere generate --model "$T/nowhere" -p cat -o "$T/bad.png"
for steps in -1 0 1e9 5x 0x10 99999999999999999999 ''; do bad "--steps '$steps'" 2 steps generate --model $M -p cat --steps "$steps" -o "$T/bad.png"; done
for x in nan inf 1,5 -3; do bad "--cfg-scale $x" 2 cfg-scale generate --model $M -p cat --cfg-scale $x -o "$T/bad.png"; done
bad "more steps than the schedule" 2 'expected 1 to 1000' generate --model $M -p cat --steps 1001 -W 8 -H 8 -o "$T/bad.png"
bad "size" 2 'nearest is 64' $G -p cat -W 63 -o "$T/bad.png"
bad "sampler" 2 'ddim|ddpm' $G -p cat --sampler plms -o "$T/bad.png"
bad "missing value" 2 'needs a value' generate --model $M -p
bad "prompt that is not UTF-8" 2 'UTF-8' $G -p "$(printf 'a \377')" -o "$T/bad.png"
bad "folder that is not there" 6 nowhere $G -p cat -o "$T/nowhere/bad.png"
bad "output is a folder" 6 folder $G -p cat -o "$T"
bad "unwritten format" 4 'png or .ppm' $G -p cat -o "$T/bad.jpg"
bad "word not there" 6 nowhere $G -p cat --embedding "$T/nowhere" -o "$T/bad.png"
bad "word twice" 2 '<mango>' $G -p cat --embedding "$E" --embedding "$E" -o "$T/bad.png"
bad "word of the model" 2 cat $G -p cat --embedding "cat=$E" -o "$T/bad.png"
bad "recipe in no picture" 3 'does not say' generate --model $M --from-image testdata/world/concepts/mango/0.png -o "$T/bad.png"
bad "recipe of no PNG" 3 '' generate --model $M --from-image Makefile -o "$T/bad.png"
bad "instruction set" 2 isa $G -p cat --isa sse -o "$T/bad.png"

# files of words: too wide, wrong formats, damaged
word() { # FILE HEADER BYTES: a safetensors file
    n=$(printf '%s' "$2" | wc -c)
    { printf "\\$(printf %o "$n")\0\0\0\0\0\0\0%s" "$2" && head -c "$3" /dev/zero; } >"$1"
}
word "$T/wide" '{"<x>":{"dtype":"F32","shape":[768],"data_offsets":[0,3072]}}' 3072
bad "other width" 3 'width 768.*width 128.*1.x' $G -p cat --embedding "$T/wide" -o "$T/bad.png"
word "$T/kohya" '{"emb_params":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}' 4
bad "kohya's format" 4 kohya $G -p cat --embedding "$T/kohya" -o "$T/bad.png"
word "$T/cube" '{"<x>":{"dtype":"F32","shape":[1,1,1],"data_offsets":[0,4]}}' 4
bad "three dimensions" 3 'no learned word' $G -p cat --embedding "$T/cube" -o "$T/bad.png"
word "$T/none" '{}' 0
bad "no tensor" 3 'no tensor' $G -p cat --embedding "$T/none" -o "$T/bad.png"
printf 'PK\003\004rest' >"$T/zip"
bad "PyTorch file" 4 PyTorch $G -p cat --embedding "$T/zip" -o "$T/bad.png"
head -c 100 "$E" >"$T/short"
bad "cut file" 3 short $G -p cat --embedding "$T/short" -o "$T/bad.png"
: >"$T/empty"
bad "empty file" 3 empty $G -p cat --embedding "$T/empty" -o "$T/bad.png"
[ -z "$(find "$T" -name '*bad*' -o -name '.*.tmp.*')" ]
result "nothing left behind" $?

# ---- encode, decode ----
P=testdata/world/concepts/mango/0.png
good encode encode -m $M $P --moments --json -o "$T/z"
holds "its shape" "$T/out" '"shape":\[1,4,16,16\]'
good decode decode -m $M "$T/z" -o "$T/p.png"
holds "its path" "$T/out" "^$T/p.png\$"
good "encode a sample" encode -m $M $P --sample --seed 3 --resolution 32 -o "$T/z2"
good "encode it again" encode -m $M $P --sample --seed 3 --resolution 32 -o "$T/z3"
same "a seed is a sample" "$T/z2" "$T/z3"
good "save latents" $G -p cat -W 16 -H 16 -b 2 --no-metadata --save-latents "$T/zz" -o "$T/g.png"
good "decode them" decode -m $M "$T/zz" -o "$T/h.png"
same "to the same pictures" "$T/g-1.png" "$T/h-1.png"
bad "size of the square" 2 'nearest is 32' encode -m $M $P --resolution 31 -o "$T/bad"
printf 'P6 3 3 255\n123456789012345678901234567' >"$T/odd.ppm"
bad "size of the picture" 3 'multiples of 4' encode -m $M "$T/odd.ppm" -o "$T/bad"
bad "no picture" 3 '' encode -m $M Makefile -o "$T/bad"
bad "no latent" 3 'no latent of this model' decode -m $M "$E" -o "$T/bad.png"
bad "several tensors" 3 'tensor' decode -m $M $M/vae/diffusion_pytorch_model.safetensors -o "$T/bad.png"
bad "tensor not there" 2 'nope' decode -m $M "$T/z" --tensor nope -o "$T/bad.png"

# ---- tokenize ----
good tokenize tokenize -m $M 'a photo of a <mango>' --embedding "$E"
[ "$(cut -f 2 "$T/out" | tr '\n' ' ')" = "0 3 10 26 3 1678 1 " ]
result "its ids" $?
good "tokenize with a vocabulary alone" tokenize -m testdata/clip-vocab --json 'a cat'
holds "CLIP's ids" "$T/out" '"id":320,"text":"a</w>"},{"position":2,"id":2368,"text":"cat</w>"}.*"length":77,"used":4'
good "empty prompt" tokenize -m $M ''
bad "two prompts" 2 'one prompt' tokenize -m $M a b

# ---- inspect ----
good "inspect a model" inspect $M
holds "its size" "$T/out" 'parameters: 3372484'
holds "its use" "$T/out" 'usable: yes'
good "inspect a word" inspect --stats "$E"
holds "its numbers" "$T/out" 'norm: 1.927'
good "inspect a picture" inspect --json "$T/g-0.png"
holds "its width" "$T/out" '"width":16'
good "inspect a configuration" inspect $M/unet/config.json
holds "its kind" "$T/out" 'kind: configuration of diffusers'
bad "inspect no file" 6 nowhere inspect "$T/nowhere"
bad "inspect an unread format" 4 PyTorch inspect "$T/zip"
bad "inspect something else" 3 'safetensors' inspect Makefile
bad "inspect a folder of anything" 3 model_index inspect tests

if [ -w /dev/full ]; then # opened by the shell, written through
    "$O" inspect "$E" >/dev/full 2>"$T/err"
    [ $? = 6 ]
    result "a full disk behind stdout" $?
fi

finish
