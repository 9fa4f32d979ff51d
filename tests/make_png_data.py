#!/usr/bin/env python3
"""Makes testdata/png: small pictures written by other programs, and what they must decode to.

    python3 tests/make_png_data.py testdata/png        (Pillow 9.4, numpy, zlib of Python 3.11)

Every picture is drawn here from formulas (no photograph). Two writers are used: Pillow's (`pil_*`), and the one below, which goes
through all colour types, bit depths, interlacing, filters and chunkings that Pillow cannot write. The expected pixels come from
Pillow reading the file back, `Image.open(f).convert("RGB")`, and from the samples themselves where Pillow does something else
(16-bit grey, which Pillow clips); where both exist they are compared here. expected.txt has a line per file:

    NAME WIDTH HEIGHT FNV64     FNV-1a, 64 bits, of the RGB bytes, row by row
"""
import os
import struct
import sys
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
expected = {}
rng = np.random.default_rng(20220801)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def samples(w, h, colour, depth):
    """Waves and some noise, [h, w, channels] of integers below 2^depth."""
    y, x = np.mgrid[0:h, 0:w]
    top = (1 << depth) - 1
    planes = [0.5 + 0.3 * np.sin((x * (1.3 + c) + y * (2.1 - c)) / 5.0) + 0.2 * rng.random((h, w)) for c in range(CHANNELS[colour])]
    return np.clip(np.stack(planes, -1) * top, 0, top).astype(np.int64)


def pack(row, depth):
    """[n, channels] samples to bytes, high bits first."""
    flat = row.reshape(-1)
    if depth == 16:
        return flat.astype(">u2").tobytes()
    if depth == 8:
        return flat.astype(np.uint8).tobytes()
    bits = "".join(format(int(v), "0%db" % depth) for v in flat)
    bits += "1" * (-len(bits) % 8)  # what pads a row does not matter, so it is not zero
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def paeth(a, b, c):
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def filtered(rows, bpp, choose):
    above, result = bytes(len(rows[0])), b""
    for y, row in enumerate(rows):
        kind = choose(y)
        line = bytearray([kind])
        for i, v in enumerate(row):
            a = row[i - bpp] if i >= bpp else 0
            b, c = above[i], above[i - bpp] if i >= bpp else 0
            line.append((v - (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) & 255)
        result += bytes(line)
        above = row
    return result


def to_rgb(s, colour, depth, palette):
    if colour == 3:
        return np.array(palette, np.uint8)[s[:, :, 0]]
    v = s >> 8 if depth == 16 else s * (255 // ((1 << depth) - 1))
    v = v.astype(np.uint8)
    return v[:, :, [0, 0, 0]] if colour in (0, 4) else v[:, :, :3]


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def record(name, rgb):
    h, w, _ = rgb.shape
    expected[name] = "%s %d %d %016x" % (name, w, h, fnv(np.ascontiguousarray(rgb).tobytes()))


def make(name, w, h, colour, depth, interlace=0, choose=lambda y: y % 5, level=9, cuts=(), extra=b"", tail=b"", trns=None, strategy=0):
    s = samples(w, h, colour, depth)
    palette = [tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(1 << depth)] if colour == 3 else None
    bpp = max(1, CHANNELS[colour] * depth // 8)
    raw = b""
    for x0, y0, dx, dy in ADAM7 if interlace else [(0, 0, 1, 1)]:
        part = s[y0::dy, x0::dx]
        if part.size:
            raw += filtered([pack(r, depth) for r in part], bpp, choose)
    z = zlib.compressobj(level, zlib.DEFLATED, 15, 8, strategy)
    data = z.compress(raw) + z.flush()
    idat, last = b"", 0
    for cut in list(cuts) + [len(data)]:
        cut = min(cut, len(data))
        idat += chunk(b"IDAT", data[last:cut])
        last = cut
    f = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace)) + extra
    if palette:
        f += chunk(b"PLTE", bytes(v for c in palette for v in c))
    if trns is not None:
        f += chunk(b"tRNS", trns)
    open(os.path.join(out, name), "wb").write(f + idat + tail + chunk(b"IEND"))
    rgb = to_rgb(s, colour, depth, palette)
    record(name, rgb)
    if not (colour == 0 and depth == 16):
        seen = np.asarray(Image.open(os.path.join(out, name)).convert("RGB"))
        assert np.array_equal(seen, rgb), name


DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
for colour, depths in DEPTHS.items():
    for depth in depths:
        for interlace in (0, 1):
            make("c%d_%02d_%s.png" % (colour, depth, "i" if interlace else "n"), 21, 17, colour, depth, interlace)
for size in range(1, 9):
    make("adam7_%dx%d.png" % (size, size), size, size, 2, 8, 1)
    make("adam7_%dx%d.png" % (size, 9 - size), size, 9 - size, 0, 1, 1)
make("adam7_1x1_16.png", 1, 1, 6, 16, 1)
make("adam7_1x33.png", 1, 33, 2, 8, 1)
make("adam7_33x1.png", 33, 1, 3, 4, 1)
make("size_1x1.png", 1, 1, 0, 1)
make("size_33x1.png", 33, 1, 0, 2)
make("size_1x33.png", 1, 33, 4, 8)
for kind in range(5):
    make("filter_%d.png" % kind, 16, 9, 2, 8, choose=lambda y, k=kind: k)
    make("filter_%d_grey16.png" % kind, 9, 7, 0, 16, choose=lambda y, k=kind: k)
for level in (0, 1, 6):
    make("zlib_%d.png" % level, 40, 30, 2, 8, level=level)
make("zlib_fixed.png", 24, 20, 2, 8, strategy=zlib.Z_FIXED)
make("zlib_huffman_only.png", 24, 20, 2, 8, strategy=zlib.Z_HUFFMAN_ONLY)
make("zlib_rle.png", 24, 20, 0, 8, strategy=zlib.Z_RLE)
make("idat_bytes.png", 9, 9, 2, 8, cuts=range(1, 400))
make("idat_empty.png", 9, 9, 2, 8, cuts=(0, 0, 5, 5, 5))
make("trns_grey.png", 8, 8, 0, 8, trns=b"\0\x80")
make("trns_rgb.png", 8, 8, 2, 8, trns=b"\0\1\0\2\0\3")
make("trns_rgb16.png", 8, 8, 2, 16, trns=b"\1\1\1\2\1\3")
make("trns_palette_short.png", 8, 8, 3, 4, trns=b"\0\x40\x80")
make("trns_palette_full.png", 8, 8, 3, 2, 1, trns=b"\0\x40\x80\xff")
make("palette_suggested.png", 8, 8, 2, 8, extra=chunk(b"PLTE", bytes(range(30))))
make("apng.png", 6, 6, 2, 8, extra=chunk(b"acTL", struct.pack(">II", 1, 0)))
texts = chunk(b"tEXt", b"Title\0caf\xe9") + chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a photo of *\nSteps: 20" * 40))
texts += chunk(b"iTXt", "Author\0\0\0de\0Verfasser\0H\u00e4\u20ac\U0001f600".encode())
texts += chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress("\u03c9" .encode() * 100))
make("texts.png", 5, 5, 2, 8, extra=texts, tail=chunk(b"tEXt", b"after\0") + chunk(b"tIME", struct.pack(">HBBBBB", 2022, 8, 2, 1, 2, 3)))
make("gamma_profile.png", 7, 5, 2, 8, extra=chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"sRGB", b"\0") + chunk(b"prVt", b"x"))

# Pillow's own writer.
picture = Image.fromarray(to_rgb(samples(60, 45, 2, 8), 2, 8, None))
for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
    im = Image.fromarray(samples(60, 45, 6, 8).astype(np.uint8), "RGBA").convert(mode) if mode != "P" else picture.quantize(19)
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "Pillow")
    im.save(os.path.join(out, "pil_%s.png" % mode), optimize=mode == "P", pnginfo=info)
    record("pil_%s.png" % mode, np.asarray(im.convert("RGB")))
im = picture.quantize(200)
im.save(os.path.join(out, "pil_P_transparency.png"), transparency=3)
record("pil_P_transparency.png", np.asarray(Image.open(os.path.join(out, "pil_P_transparency.png")).convert("RGB")))
Image.fromarray((samples(30, 20, 0, 16)[:, :, 0]).astype(np.int32), "I").save(os.path.join(out, "pil_I.png"))
grey = np.asarray(Image.open(os.path.join(out, "pil_I.png"))).astype(np.int64) >> 8
record("pil_I.png", np.stack([grey] * 3, -1).astype(np.uint8))

open(os.path.join(out, "expected.txt"), "w").write("".join(line + "\n" for _, line in sorted(expected.items())))
print(len(expected), "pictures,", sum(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out)), "bytes")
