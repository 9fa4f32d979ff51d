#!/bin/sh
# oneword verify, trace and diff: the goldens of testdata/ pass, and everything that should fail does, naming what is wrong.
B=${B:-build}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

# check WHAT EXIT PATTERN COMMAND...: the exit status, and a line of the output that matches (grep -E); output stays in $out
check() {
    what=$1 want=$2 pattern=$3
    shift 3
    out=$("$@" 2>&1)
    code=$?
    if [ $code = "$want" ] && printf '%s\n' "$out" | grep -Eq -- "$pattern"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $what: exit $code, expected $want and a line like '$pattern', got:"
        printf '%s\n' "$out" | tail -n 5
    fi
}

# lacks WHAT PATTERN: no line of the last output matches
lacks() {
    if printf '%s\n' "$out" | grep -Eq -- "$2"; then
        failed=$((failed + 1))
        echo "FAILED: $1: '$2' in:"
        printf '%s\n' "$out"
    else
        passed=$((passed + 1))
    fi
}

# corrupt FILE TENSOR: multiplies the tensor's first number by a power of two or more (its top byte becomes another exponent)
corrupt() {
    header=$(od -An -tu4 -N4 "$1" | tr -d ' ')
    name=$(printf '%s' "$2" | sed 's/\./\\./g')
    at=$(dd if="$1" bs=1 skip=8 count="$header" 2>/dev/null |
        LC_ALL=C sed -n "s/.*\"$name\":{[^}]*\"data_offsets\":\[\([0-9]*\),.*/\1/p")
    printf '\102' | dd of="$1" bs=1 seek=$((8 + header + at + 3)) conv=notrunc 2>/dev/null
}

# renamed FROM TO FILE: the same bytes with the header's FROM, of equal length, replaced
renamed() { LC_ALL=C sed "s/$1/$2/" "$3"; }

v="$B/oneword verify"
g=testdata/golden
last='^[0-9]+ passed, 0 failed, [0-9]+ unsupported$'

# ---- what is right passes ----

check "all goldens, more than 150 of them" 0 '^1[5-9][0-9] passed, 0 failed, [0-9]+ unsupported$' $v
check "the last line is the count" 0 "$last" sh -c "$v $g/ops | tail -n 1"
check "one case" 0 '^1 passed, 0 failed, 0 unsupported$' $v $g/tiny-sd15/cases/unet_basic.safetensors
check "a case from within its folder" 0 '^1 passed, 0 failed, 0 unsupported$' sh -c \
    "top=\$PWD; cd $g/tiny-sd15/cases && case $B in /*) o=$B ;; *) o=\$top/$B ;; esac; \$o/oneword verify vae_decode_0.safetensors"
check "by definition, in double" 0 '^1 passed, 0 failed, 0 unsupported$' $v --ref $g/tiny-sd15/cases/vae_decode_0.safetensors
check "on plain C" 0 '^1 passed, 0 failed, 0 unsupported$' $v --isa scalar $g/tiny-sd15/cases/unet_basic.safetensors
check "every tensor with its error" 0 'grad\.weight: normalised squared error .* worst at element' \
    $v -v $g/ops/cases/linear_basic.safetensors
check "JSON" 0 '"name":"grad.weight".*"nmse":.*"worst":.*"golden":' $v --json $g/ops/cases/linear_basic.safetensors
check "the JSON summary" 0 '^\{"passed":1,"failed":0,"unsupported":0\}$' $v --json $g/ops/cases/linear_basic.safetensors

# ---- what is wrong fails, by name ----

mkdir -p "$tmp/model/cases" "$tmp/ops"
for part in unet vae text_encoder tokenizer scheduler model_index.json; do
    cp -R "$g/tiny-sd15/$part" "$tmp/model/"
done
chmod -R u+w "$tmp"

cp $g/ops/cases/linear_basic.safetensors "$tmp/ops/case.safetensors" && chmod u+w "$tmp/ops/case.safetensors"
corrupt "$tmp/ops/case.safetensors" grad.weight
check "another number in a gradient" 7 'FAILED .*grad\.weight: .*worst at element 0: ' $v "$tmp/ops"
check "that is counted" 7 '^0 passed, 1 failed, 0 unsupported$' $v "$tmp/ops"
check "and in JSON" 7 '"result":"failed".*"first_divergence":"grad.weight"' $v --json "$tmp/ops"

cp $g/tiny-sd15/cases/unet_basic.safetensors "$tmp/model/cases/unet.safetensors" && chmod u+w "$tmp/model/cases/unet.safetensors"
corrupt "$tmp/model/cases/unet.safetensors" trace.mid_block
corrupt "$tmp/model/cases/unet.safetensors" out.sample
check "the first diverging trace" 7 'FAILED .*trace\.mid_block: ' $v "$tmp/model"
lacks "nothing after it" 'out\.sample'
check "nor in JSON" 7 '"name":"trace.mid_block"' $v --json "$tmp/model"
lacks "nor in JSON" '"name":"(out|trace.up)'

cp $g/tiny-sd15/cases/unet_basic.safetensors "$tmp/model/cases/unet.safetensors"
u="$tmp/model/unet/diffusion_pytorch_model.safetensors"
corrupt "$u" mid_block.resnets.0.conv1.weight
check "another weight" 7 'FAILED .*trace\.mid_block: ' $v "$tmp/model"

renamed '"out\.y":{"dtype"' '"out.z":{"dtype"' $g/ops/cases/softmax_77.safetensors >"$tmp/ops/case.safetensors"
check "a tensor that nothing compared" 7 'out\.z: nothing compared' $v "$tmp/ops"
renamed '"grad\.x":{"dtype"' '"gone.x":{"dtype"' $g/ops/cases/softmax_77.safetensors >"$tmp/ops/case.safetensors"
check "a tensor of unknown meaning" 7 'gone\.x: nothing compared' $v "$tmp/ops"
renamed '"in\.x":{"dtype"' '"up.x":{"dtype"' $g/ops/cases/softmax_77.safetensors >"$tmp/ops/case.safetensors"
check "a missing input" 7 'the case has no in\.x' $v "$tmp/ops"
renamed '"case":"op"' '"case":"xy"' $g/ops/cases/softmax_77.safetensors >"$tmp/ops/case.safetensors"
check "an unknown kind" 7 "unknown kind of case 'xy'" $v "$tmp/ops"
renamed '"softmax\\"' '"softmix\\"' $g/ops/cases/softmax_77.safetensors |
    LC_ALL=C sed 's/\\"softmax\\"/\\"softmix\\"/' >"$tmp/ops/case.safetensors"
check "an unknown operator" 7 "unknown operator 'softmix'" $v "$tmp/ops"

cp $g/tokenizer/tiny_added_tokens.jsonl "$tmp/tiny.jsonl" && chmod u+w "$tmp/tiny.jsonl"
cp -R $g/tokenizer/tiny "$tmp/"
check "token ids" 0 '^1 passed, 0 failed' $v "$tmp/tiny.jsonl"
printf '%s\n' '{"text": "a photo", "ids_hf": [998, 320, 795, 999]}' >>"$tmp/tiny.jsonl"
check "another token id" 7 'FAILED .*line 17 ids_hf: .*element 2: 794, golden 795' $v "$tmp/tiny.jsonl"

# ---- damaged and missing files ----

dd if=$g/ops/cases/softmax_77.safetensors of="$tmp/cut.safetensors" bs=100 count=20 2>/dev/null
check "a damaged case that was named" 3 'oneword: error: .*cut\.safetensors' $v "$tmp/cut.safetensors"
mkdir -p "$tmp/damaged/cases" && cp "$tmp/cut.safetensors" "$tmp/damaged/cases/" && cp $g/ops/cases/silu.safetensors "$tmp/damaged/cases/"
check "one among others" 7 '^1 passed, 1 failed, 0 unsupported$' $v "$tmp/damaged"
check "a missing file" 6 'oneword: error: .*no-such-case' $v "$tmp/no-such-case.safetensors"
mkdir "$tmp/empty"
check "a folder without cases" 2 'no golden cases' $v "$tmp/empty"
check "a weight file is no case" 3 'no golden case' $v "$u"

# ---- what a later version brings ----

pndm=$g/tiny-sd15/cases/t2i_pndm10.safetensors
check "another sampler is not supported" 0 '^0 passed, 0 failed, 1 unsupported$' $v $pndm
check "and says why" 0 'unsup\. .*PNDMScheduler' $v $pndm
check "which --strict takes for a failure" 7 '^0 passed, 1 failed, 0 unsupported$' $v --strict $pndm

# ---- traces ----

case=$g/tiny-sd15/cases/unet_basic.safetensors
$B/oneword trace $case -o "$tmp/a" 2>/dev/null
$B/oneword trace --isa scalar --threads 1 $case -o "$tmp/b" 2>/dev/null
check "the same bits on plain C with one thread" 0 '^no difference in [1-9][0-9]* tensors$' $B/oneword diff "$tmp/a" "$tmp/b"
check "a trace agrees with its golden" 0 '^no difference' $B/oneword diff --tolerance 1e-9 --common-only "$tmp/a" $case
corrupt "$tmp/b" trace.down_blocks.1
corrupt "$tmp/b" out.sample
check "the first difference" 7 '^first difference: trace\.down_blocks\.1: ' $B/oneword diff "$tmp/a" "$tmp/b"
check "in JSON" 7 '^\{"first_difference":"trace\.down_blocks\.1"' $B/oneword diff --json "$tmp/a" "$tmp/b"
check "a tensor that only one has" 7 'only in the (first|second) file' $B/oneword diff $g/ops/cases/linear_basic.safetensors "$tmp/a"
check "trace without output" 2 'expected one case, or --model DIR, and -o FILE' $B/oneword trace $case
for isa in scalar avx2; do # where there is no AVX2, the error leaves the file of plain C alone
    $B/oneword trace --isa $isa --model $g/tiny-sd15 -p "a photo of a cat" --seed 3 -o "$tmp/picture" 2>/dev/null
    mv "$tmp/picture" "$tmp/picture.$isa" 2>/dev/null || cp "$tmp/picture.scalar" "$tmp/picture.$isa"
done
check "a picture, all tensors alike" 0 '^no difference in [1-9][0-9]* tensors$' \
    $B/oneword diff "$tmp/picture.scalar" "$tmp/picture.avx2"
$B/oneword trace --model $g/tiny-sd15 -p "a photo of a dog" --seed 3 -o "$tmp/other" 2>/dev/null
check "another prompt differs in the text" 7 '^first difference: trace\.hidden_states\.0' \
    $B/oneword diff "$tmp/picture.scalar" "$tmp/other"

echo "cli_verify: $passed passed, $failed failed"
[ $failed = 0 ]
