"""G.711 sample by sample. The smooth curves, and the standard's own pieces."""

import math


def smooth(x, law, bits=8):
    """One sample, squeezed, rounded to a sign and `bits` - 1 bits, expanded."""
    steps, size = 2 ** (bits - 1) - 1, min(abs(x), 1.0)
    if law == "mu":
        code = round(math.log(1 + 255 * size) / math.log(256) * steps)
        out = (256 ** (code / steps) - 1) / 255
    else:
        whole = 1 + math.log(87.6)
        code = round((87.6 * size if size < 1 / 87.6 else 1 + math.log(87.6 * size)) / whole * steps)
        z = code / steps * whole
        out = z / 87.6 if z < 1 else math.exp(z - 1) / 87.6
    return math.copysign(out, x)


def mu_pieces(x):
    """G.711's mu-law on 14-bit integers: eight straight pieces, each twice as steep as the next."""
    size = min(int(abs(x) * 8192), 8158) + 33
    piece = size.bit_length() - 6
    step = (size >> (piece + 1)) & 15
    out = ((2 * step + 33) << piece) - 33
    return math.copysign(out / 8192, x)
