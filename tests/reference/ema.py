"""DinoSR's codebooks (arXiv 2305.10005, eq. 3 to 5) code by code: slow, plain, and nothing shared with hark."""


def nearest(x, codebook):
    """The code of least squared distance: x (D,), codebook V times (D,)."""
    distances = [float(((x - code) ** 2).sum()) for code in codebook]
    return distances.index(min(distances))


def update(codebook, sums, numbers, frames, decay):
    """Move s and n of every code by the frames of one step, and the code to s / n once it has had frames."""
    chosen = [nearest(x, codebook) for x in frames]
    for v in range(len(codebook)):
        members = [x for x, own in zip(frames, chosen, strict=True) if own == v]
        sums[v] = decay * sums[v] + (1 - decay) * sum(members, 0 * sums[v])
        numbers[v] = decay * numbers[v] + (1 - decay) * len(members)
        if numbers[v] > 0:
            codebook[v] = sums[v] / numbers[v]
