"""NEST-RQ's loss (arXiv 2409.08680) written token by token: slow, plain, nothing of hark's."""

import torch


def tokens(x, projections, codebooks, *, stride):
    """Nearest codes of every whole piece of an utterance (S, F): one list of G codes for each."""
    found = []
    for begin in range(0, len(x) - stride + 1, stride):
        piece = torch.cat([x[begin + k] for k in range(stride)])
        codes = []
        for projection, codebook in zip(projections, codebooks, strict=True):
            y = piece @ projection
            y = y / y.norm()
            codes.append(min(range(len(codebook)), key=lambda v: float((codebook[v] - y).norm())))
        found.append(codes)
    return found


def loss(pieces, outputs, weight, bias, *, codes, n, ahead):
    """Cross-entropy of the next `n` tokens after what is heard, the mean over books; and how many there were.

    pieces: per utterance a list of lists of G codes; outputs: per utterance (T, D).
    """
    total, count = torch.zeros(()), 0
    for tokens, h in zip(pieces, outputs, strict=True):
        for t in range(len(h)):
            scores = weight @ h[t] + bias
            for k in range(n):
                place = t + ahead + 1 + k
                if place >= len(tokens):
                    continue
                books = len(tokens[place])
                for g, code in enumerate(tokens[place]):
                    begin = (k * books + g) * codes
                    logits = scores[begin : begin + codes]
                    total = total + (torch.logsumexp(logits, 0) - logits[code]) / books
                count += 1
    return total, count
