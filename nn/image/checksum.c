#include "nn/image/checksum.h"

/* Remainders of the sixteen 4-bit values: two look-ups a byte, in a table short enough to be checked by eye. */
static const uint32_t crc_nibble[16] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
};

uint32_t nn_crc32(uint32_t crc, const unsigned char *p, size_t len) {
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ crc_nibble[crc & 15];
        crc = crc >> 4 ^ crc_nibble[crc & 15];
    }
    return ~crc;
}

uint32_t nn_adler32(uint32_t adler, const unsigned char *p, size_t len) {
    /* 5552 bytes of 255 are the most that two 32-bit sums starting below 65521 take without overflow. */
    const size_t run_max = 5552;
    uint32_t a = adler & 0xffff, b = adler >> 16;
    while (len) {
        size_t run = len < run_max ? len : run_max;
        for (size_t i = 0; i < run; i++) a += p[i], b += a;
        a %= 65521, b %= 65521;
        p += run, len -= run;
    }
    return b << 16 | a;
}
