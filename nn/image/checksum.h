/* The two checksums of PNG: CRC-32 over every chunk (PNG specification 5.5, ISO 3309, reflected polynomial 0xedb88320)
 * and Adler-32 over the uncompressed data of a zlib stream (RFC 1950, section 8.2). Both are updated piece by piece. */
#ifndef NN_IMAGE_CHECKSUM_H
#define NN_IMAGE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#define NN_CRC32_INIT 0u
#define NN_ADLER32_INIT 1u

/* The checksum of everything so far followed by p[0..len); start with the INIT value. */
uint32_t nn_crc32(uint32_t crc, const unsigned char *p, size_t len);
uint32_t nn_adler32(uint32_t adler, const unsigned char *p, size_t len);

#endif
