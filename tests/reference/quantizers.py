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


def begin_again(book, weight, drawn, decay, rare=0.1):
    """Dead codes, left with less than `rare` of what an average one gets in a step, go to the drawn inputs in turn."""
    average = (1 - decay) * sum(weight) / len(weight)
    new_book, new_weight, drawn = list(book), list(weight), list(drawn)
    for code, own in enumerate(weight):
        if own < rare * average and drawn:
            new_book[code], new_weight[code] = drawn.pop(0), 0.0
    return new_book, new_weight
