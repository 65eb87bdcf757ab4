"""Quantizers one input and one number at a time, in float64."""

import math


def fsq_levels(z, levels):
    """The level of each number: lists of d -> list of d."""
    return [round((math.tanh(number) + 1) / 2 * (size - 1)) for number, size in zip(z, levels, strict=True)]


def fsq_id(level, levels):
    """What the levels write as digits, the first the lowest."""
    number = 0
    for digit, size in reversed(list(zip(level, levels, strict=True))):
        number = number * size + digit
    return number


def fsq_value(level, levels):
    """Levels as numbers from -1 to 1."""
    return [2 * digit / (size - 1) - 1 for digit, size in zip(level, levels, strict=True)]


def fsq_penalty(z, levels):
    """1 - perplexity / levels, averaged over dimensions: each number shared out between its two nearest levels."""
    used = []
    for place, size in enumerate(levels):
        weight = [0.0] * size
        for row in z:
            soft = (math.tanh(row[place]) + 1) / 2 * (size - 1)
            low = min(int(soft), size - 2)
            weight[low] += (low + 1 - soft) / len(z)
            weight[low + 1] += (soft - low) / len(z)
        entropy = -sum(w * math.log(w) for w in weight if w > 0)
        used.append(math.exp(entropy) / size)
    return 1 - sum(used) / len(used)


def residual_ids(x, books):
    """Nearest codes of what is left, book after book; and what is left: a row (C,) and codebooks (V, C)."""
    ids, left = [], x.clone()
    for book in books:
        distances = [float((left - code).square().sum()) for code in book]
        ids.append(distances.index(min(distances)))
        left = left - book[ids[-1]]
    return ids, left


def halve_the_commonest(book, weight, rare=0.05):
    """The k-th rarest code, where dead, takes half of the k-th commonest, where that is common: in new lists."""
    order = sorted(range(len(weight)), key=lambda code: -weight[code])
    average = sum(weight) / len(weight)
    new_book, new_weight = list(book), list(weight)
    for giver, taker in zip(order, reversed(order), strict=True):
        if weight[giver] >= average and weight[taker] < rare * average:
            new_book[taker] = book[giver] + 0.01 * (book[taker] - book[giver])
            new_weight[giver] = new_weight[taker] = weight[giver] / 2
    return new_book, new_weight
