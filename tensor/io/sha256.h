/* SHA-256 (FIPS 180-4): fingerprints of files, models and results. */
#ifndef TN_SHA256_H
#define TN_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct tn_sha256 {
    uint32_t state[8];
    uint64_t total;          /* bytes so far */
    unsigned char block[64]; /* the last total % 64 of them */
} tn_sha256;

void tn_sha256_init(tn_sha256 *s);
void tn_sha256_update(tn_sha256 *s, const void *data, size_t n);
void tn_sha256_final(tn_sha256 *s, unsigned char digest[32]); /* s must be initialised again before further use */
/* The digest of all bytes so far as 64 lowercase digits and a NUL; finishes like tn_sha256_final. */
void tn_sha256_hex(tn_sha256 *s, char hex[65]);

#endif
