/* Little- and big-endian reads and writes by bytes: no alignment, no byte order of the machine. */
#ifndef TN_BYTES_H
#define TN_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t tn_le16(const void *p) {
    const unsigned char *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t tn_le32(const void *p) {
    const unsigned char *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t tn_le64(const void *p) { return tn_le32(p) | (uint64_t)tn_le32((const unsigned char *)p + 4) << 32; }
static inline uint32_t tn_be32(const void *p) {
    const unsigned char *b = p;
    return (uint32_t)b[3] | (uint32_t)b[2] << 8 | (uint32_t)b[1] << 16 | (uint32_t)b[0] << 24;
}
static inline void tn_put_le32(void *p, uint32_t v) {
    unsigned char *b = p;
    b[0] = (unsigned char)v, b[1] = (unsigned char)(v >> 8), b[2] = (unsigned char)(v >> 16), b[3] = (unsigned char)(v >> 24);
}
static inline void tn_put_le64(void *p, uint64_t v) {
    tn_put_le32(p, (uint32_t)v);
    tn_put_le32((unsigned char *)p + 4, (uint32_t)(v >> 32));
}
static inline void tn_put_be32(void *p, uint32_t v) {
    unsigned char *b = p;
    b[3] = (unsigned char)v, b[2] = (unsigned char)(v >> 8), b[1] = (unsigned char)(v >> 16), b[0] = (unsigned char)(v >> 24);
}
static inline float tn_le_f32(const void *p) {
    uint32_t u = tn_le32(p);
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

#endif
