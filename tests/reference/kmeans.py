"""Mini-batch k-means (Sculley 2010, algorithm 1) frame by frame: slow, plain, and nothing shared with hark."""


def nearest(x, codebook):
    """The code of least squared distance: x (D,), codebook V times (D,)."""
    distances = [float(((x - code) ** 2).sum()) for code in codebook]
    return distances.index(min(distances))


def update(codebook, seen, frames):
    """One mini-batch: first all frames choose, then each moves its code by one over how many it has had."""
    chosen = [nearest(x, codebook) for x in frames]
    for x, v in zip(frames, chosen, strict=True):
        seen[v] += 1
        rate = 1 / seen[v]
        codebook[v] = (1 - rate) * codebook[v] + rate * x
