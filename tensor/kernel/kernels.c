/* The table of one instruction set: tn_kernels_avx512, tn_kernels_scalar, ... */
#include "tensor/kernel/k_table.h"

#define TABLE_PASTE(isa) tn_kernels_##isa
#define TABLE(isa) TABLE_PASTE(isa)
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define ENTRY(ret, name, args) K(name),

const tn_kernels TABLE(TN_ISA) = {TEXT(TN_ISA), K_LIST(ENTRY)};
