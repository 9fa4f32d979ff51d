#!/bin/sh
# make bench-peers: oneword beside PyTorch, OpenBLAS, BLIS and oneDNN (Debian packages), in at most 50 minutes on two cores.
# Arguments: names of rows, for those alone; or --fullsize and names of cases (fullsize.py). B names the configuration, PYTHON the
# interpreter that has PyTorch, OPENBLAS_OPENMP a folder with the libopenblas.so.0 of the package libopenblas0-openmp.
# What it needs is made in $B/peers: the comparing program, random models (2.1 GB), that package unpacked.
B=${B:-build}
PYTHON=${PYTHON:-/usr/bin/python3}
CC=${CC:-cc}
W=$B/peers
export PYTHONDONTWRITEBYTECODE=1
mkdir -p "$W" || exit 2

missing=
"$PYTHON" -c 'import torch, numpy' 2>/dev/null || missing="$missing python3-torch"
echo '#include <oneapi/dnnl/dnnl.h>' | "$CC" -E - >/dev/null 2>&1 || missing="$missing libdnnl-dev"
/sbin/ldconfig -p | grep -q 'libopenblas\.so\.0' || missing="$missing libopenblas0-openmp"
/sbin/ldconfig -p | grep -q 'libblis\.so\.4' || missing="$missing libblis4-openmp"
if [ -n "$missing" ]; then
    echo "bench-peers: these Debian packages are not installed:$missing" >&2
    exit 2
fi

# OpenBLAS on OpenMP: the other build has threads of its own, which fight with PyTorch's for the cores.
if [ ! -e "$W/openblas" ]; then
    for d in "$OPENBLAS_OPENMP" /usr/lib/*/openblas-openmp; do
        if [ -e "$d/libopenblas.so.0" ]; then ln -s "$(cd "$d" && pwd)" "$W/openblas" && break; fi
    done
fi
if [ ! -e "$W/openblas" ]; then
    (cd "$W" && apt-get download -q libopenblas0-openmp && dpkg -x libopenblas0-openmp_*.deb openmp) >/dev/null 2>&1
    for d in "$W"/openmp/usr/lib/*/openblas-openmp; do [ -e "$d/libopenblas.so.0" ] && ln -s "$(cd "$d" && pwd)" "$W/openblas"; done
fi
[ -e "$W/openblas" ] || echo "bench-peers: libopenblas0-openmp cannot be had: PyTorch's text encoder is slower than it could be" >&2

"$CC" -std=c11 -D_GNU_SOURCE -Wall -Wextra -O2 -fopenmp -I. -o "$W/kernels" tests/peers/kernels.c "$B"/obj/tools/bench_kernels.o \
    "$B"/obj/tools/bench_measure.o "$B"/obj/tools/bench_models.o "$B"/obj/tools/bench_profile.o "$B/liboneword.a" -ldnnl -ldl -lm || exit 2
[ -e "$W/sd15/model_index.json" ] || "$B/oneword" init --like testdata/configs/sd15 -o "$W/sd15" --dtype f16 --seed 1 || exit 2
[ -e "$W/toy/model_index.json" ] || "$B/oneword" init --like testdata/configs/toy -o "$W/toy" --dtype f32 --seed 1 || exit 2
if [ "$1" = --fullsize ]; then
    shift
    exec "$PYTHON" tests/peers/fullsize.py "$B/oneword" "$W" "$@"
fi
exec "$PYTHON" tests/peers/compare.py "$B/oneword" "$W/kernels" "$W" "$@"
