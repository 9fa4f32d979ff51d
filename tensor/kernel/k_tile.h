/* How a register tile is written, private to tensor/kernel: macros that repeat a statement for each row of it, and define one
 * function for each height. A row's sums are thus variables of their own; in an array they would go through memory.
 *
 * A file defines DEFINE_TILE(h), a function tile_##h, in which ROWS_##h(X) is X(0) ... X(h - 1) and WIDE(x) is x where rows
 * have a second vector. EACH_HEIGHT(DEFINE_TILE) then makes them all, and TILES is the table of them by height. */
#ifndef TN_K_TILE_H
#define TN_K_TILE_H

#include "tensor/kernel/simd.h"

#if V_TILE_VECS == 2
#define WIDE(x) x
#else
#define WIDE(x)
#endif

#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_3(X) ROWS_2(X) X(2)
#define ROWS_4(X) ROWS_3(X) X(3)
#define ROWS_5(X) ROWS_4(X) X(4)
#define ROWS_6(X) ROWS_5(X) X(5)
#define ROWS_7(X) ROWS_6(X) X(6)
#define ROWS_8(X) ROWS_7(X) X(7)
#define ROWS_9(X) ROWS_8(X) X(8)
#define ROWS_10(X) ROWS_9(X) X(9)
#define ROWS_11(X) ROWS_10(X) X(10)
#define ROWS_12(X) ROWS_11(X) X(11)
#define ROWS_13(X) ROWS_12(X) X(12)
#define ROWS_14(X) ROWS_13(X) X(13)

#if V_TILE_ROWS == 14
#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#elif V_TILE_ROWS == 6
#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#error "V_TILE_ROWS: expected 14 or 6"
#endif

#define TILE_NAME(h) tile_##h,
#define TILES {NULL, EACH_HEIGHT(TILE_NAME)}

#endif
