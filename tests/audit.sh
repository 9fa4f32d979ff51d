#!/bin/sh
# make audit: the rules of the code that a machine can check. Prints one line for each broken rule, then the table of sizes; exit
# status 1 where a rule is broken. Needs sh, awk, grep and git; objdump, where there is one, for the rule about mutable globals.
B=${B:-build}
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
broken=$dir/broken
: >"$broken"
rule() { # rule TEXT: every line of stdin is a place where it is broken
    sed "s|^|$1: |" >>"$broken"
}
git ls-files -co --exclude-standard | grep -v '^\.git' | while read -r f; do [ -e "$f" ] && echo "$f"; done >"$dir/files"
of() { grep -E "^($1)/.*\.($2)\$" "$dir/files"; } # of 'ref|nn' 'c|h'

# The code without comments and without what stands in strings: FILE:LINE:code.
of 'ref|tensor|nn|tools|tests' 'c|h|def' | xargs awk '
    FNR == 1 { inside = 0 }
    {
        line = $0; out = ""
        while (line != "") {
            if (inside) {
                at = index(line, "*/")
                if (!at) { line = ""; break }
                line = substr(line, at + 2); inside = 0
            } else if (match(line, /\/\*|"|'"'"'/)) {
                out = out substr(line, 1, RSTART - 1); what = substr(line, RSTART, RLENGTH); line = substr(line, RSTART + RLENGTH)
                if (what == "/*") { inside = 1; continue }
                while (line != "" && substr(line, 1, 1) != what) line = substr(line, substr(line, 1, 1) == "\\" ? 3 : 2)
                line = substr(line, 2); out = out what what
            } else { out = out line; line = "" }
        }
        if (out ~ /[^ ]/) print FILENAME ":" FNR ":" out
    }' >"$dir/code"
code() { grep -E "^($1)/" "$dir/code"; }

# ---- every operator is complete ----

# Operators without a golden file of their own. The models' goldens go through all of them, forward and backward.
exempt='upsample_conv2d add scale concat slice nchw_to_tokens tokens_to_nchw gather_rows clamp l2_normalize'
grep -aoh '\\"op\\": \\"[a-z0-9_]*' testdata/golden/ops/cases/*.safetensors | sed 's/.*"//' | sort -u >"$dir/goldens"
ops=$(sed -n 's/^TN_OP(\([a-z0-9_]*\),.*/\1/p' tensor/op/ops.def)
grep -oE '^(const tn_op tn_op_|UNARY\()[a-z0-9_]+' tensor/op/op_*.c | sed 's/UNARY(/tn_op_/; s/:.*tn_op_/ /' >"$dir/structs"
for op in $ops; do
    ref=$op golden=$op
    case $op in
    add) ref=add_broadcast ;; mse) golden=mse_loss ;; gaussian_*) golden=diagonal_gaussian ;;
    esac
    grep -qE "^(void|double) ref_$ref\(" ref/ref.h || echo "$op: ref_$ref in ref/ref.h"
    grep -q "^void ref_${ref}_backward(" ref/ref.h || [ "$op" = timestep_embedding ] || echo "$op: ref_${ref}_backward in ref/ref.h"
    grep -q "ref_$ref(\|(${op}[,)]" tensor/op/ref_backend.c || echo "$op: a line in tensor/op/ref_backend.c"
    at=$(sed -n "s/ $op\$//p" "$dir/structs")
    if [ "$(echo "$at" | wc -w)" != 1 ]; then echo "$op: one definition in tensor/op/op_*.c, found \"$at\""
    else grep -A3 "tn_op tn_op_\($op\|##name\) = {" $at | grep -q cases || echo "$op: cases in $at"; fi
    case " $exempt " in
    *" $op "*) ;;
    *) grep -qx "$golden" "$dir/goldens" || echo "$op: a golden in testdata/golden/ops" ;;
    esac
done | rule "an operator lacks"
[ -n "$ops" ] || echo "tensor/op/ops.def" | rule "no operators in"

# ---- what may call and include what ----

code 'tensor|nn|tools' | grep -E '[^a-z_A-Z0-9.>](expm?1?|exp2|log|log2|log10|log1p|a?sinh?|a?cosh?|a?tanh?|atan2|pow|erfc?|cbrt|hypot|[lt]gamma)[fl]?\(' |
    rule "libm beyond its exact functions (tensor/dmath.h has them)"
code 'ref|tensor|nn|tools' | grep -E '[^a-z_A-Z0-9](strto[dfl]d?|ato[ifl]l?|s?scanf|setlocale|alloca|strtok|s?rand|gets|system|popen)\(' |
    rule "never called here"
code 'ref|tensor|nn' | grep -vE '^tensor/(err|tensor)\.c:' | grep -E '[^a-z_A-Z0-9](v?f?printf|f?puts|f?putc|putchar|perror|_?_?[eE]xit|abort|getenv)\(' |
    rule "a library does not print, exit or read the environment"
code 'ref' | grep -E '[^a-z_A-Z0-9](malloc|calloc|realloc|free)\(' | rule "ref/ has no memory of its own"
code 'ref|tensor|nn|tools' | grep '#pragma' | grep -v '^tensor/parallel.c:' | rule "#pragma outside tensor/parallel.c"
includes() { # includes FOLDER ALLOWED: direction ref <- tensor <- nn <- tools
    of "$1" 'c|h|def' | xargs grep -n '^# *include "' /dev/null | grep -vE "^[^\"]*\"($2)/"
}
{
    includes ref ref
    includes tensor tensor | grep -v '^tensor/op/ref_backend.c:.*"ref/ref.h"'
    includes nn 'tensor|nn'
    includes tools 'tensor|nn|tools'
    includes tests 'ref|tensor|nn|tools|tests'
} | rule "include direction ref <- tensor <- nn <- tools"
of 'ref|tensor|nn|tools|tests' 'c|h' | xargs grep -ho '^# *include "[^"]*"' | sed 's/.*"\(.*\)"/\1/' | sort -u | while read -r h; do
    [ -f "$h" ] || echo "$h"
done | rule "included, but not there"

# ---- no state ----

if command -v objdump >/dev/null && [ -d "$B/obj" ]; then
    # stop_signal: what a signal handler sets; bytes counts in .data of sanitizers are not ours
    for o in $(find "$B/obj/ref" "$B/obj/tensor" "$B/obj/nn" "$B/obj/tools" -name '*.o'); do
        objdump -t "$o" | awk -v o="$o" '$0 ~ / O \.(data|bss)\t/ { print o ": " $NF }'
    done | grep -v ': stop_signal$' | rule "mutable global"
fi

# ---- sizes ----

# Tables of data, one entry a line, are not read like code.
of 'ref|tensor|nn|tools|tests' 'c|h' | grep -vE 'nn/text/(html_entities|unicode_tables)\.c$' >"$dir/read"
xargs wc -l <"$dir/read" | awk '$2 != "total" && $1 > 600 { print $2 ": " $1 }' | rule "a file longer than 600 lines"
xargs awk '
    /^[A-Za-z_].*\(/ && !/;$/ { start = FNR; name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
    /^}$/ { print FNR - start + 1, FILENAME ":" start " " name }' <"$dir/read" | sort -n >"$dir/functions"
awk '$1 > 100' "$dir/functions" | rule "a function longer than 100 lines"
of 'ref|tensor|nn|tools' 'c|h' | xargs grep -nE '^ *# *(if|ifdef|ifndef)' | grep -vE '#ifndef [A-Z0-9_]+_H$' >"$dir/ifs"
ifs=$(wc -l <"$dir/ifs")
[ "$ifs" -le 40 ] || echo "$ifs" | rule "more than 40 #if"

# ---- the tree ----

cut -d/ -f1 "$dir/files" | sort -u | grep -vxE 'Makefile|ref|tensor|nn|tools|testdata|tests|README\.md|LICENSE|\..*' | rule "not of the top level"
for f in Makefile ref tensor nn tools testdata tests README.md LICENSE; do [ -e "$f" ] || echo "$f"; done | rule "the top level lacks"
for d in . $(of 'ref|tensor|nn|tools|tests|testdata' 'c|h|def|sh|png' | xargs -n 50 dirname | grep -v '^testdata/.*/' | sort -u); do
    [ -f "$d/README.md" ] || echo "$d"
done | rule "a folder without README.md"
grep '\.md$' "$dir/files" | while read -r f; do
    grep -o ']([^)]*)' "$f" | sed 's/^](//; s/)$//; s/#.*//' | grep -v '^[a-z]*:' | while read -r link; do
        [ -z "$link" ] || [ -e "$(dirname "$f")/$link" ] || echo "$f: $link"
    done
done | rule "a link to nothing"
grep -v '^testdata/' "$dir/files" | grep -v '^tests/audit.sh$' | xargs grep -nIE '/home/|/root/|/work/|(^|[^A-Z])(TODO|FIXME|XXX)([^A-Z]|$)' | cut -c1-100 |
    rule "a path of one machine, or work left over"
for f in $(of tests 'c|sh|py'); do grep -q "$(basename "${f%.*}")\." tests/README.md 2>/dev/null || echo "$f"; done | rule "tests/README.md does not name"

# ---- the table ----

count() { # count FOLDERS: files, lines, share of lines with a comment
    grep -E "^($1)/" "$dir/read" | xargs awk '
        FNR == 1 { files++; inside = 0 }
        { lines++; if (inside || /\/\*/) comments++; if (/\/\*/) inside = 1; if (/\*\//) inside = 0 }
        END { printf "%5d %7d %8.0f %%\n", files, lines, 100 * comments / lines }'
}
echo "folder    files   lines  comments"
for d in ref tensor nn tools tests; do printf '%-9s' $d && count $d; done
printf '%-9s' core && count 'ref|tensor|nn'
echo
echo "functions: $(wc -l <"$dir/functions"); 95th percentile $(awk '{ n[NR] = $1 } END { print n[int(NR * 0.95) + 1] }' "$dir/functions") lines (budget 45), longest $(tail -n 1 "$dir/functions")"
echo "#if outside include guards: $ifs (budget 40); lines beyond 120 columns: $(xargs awk 'length > 120' <"$dir/read" | wc -l)"
echo "operators: $(echo "$ops" | wc -w); without a golden of their own: $exempt"
echo
sort "$broken"
n=$(wc -l <"$broken")
echo "audit: $n rules broken"
[ "$n" = 0 ]
