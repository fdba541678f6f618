"""Slow twins of maskatlas.resampling: Python's integers, one weight and one p-value at a time."""

import math

import numpy as np

WORD = 2**64


def mixed(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) % WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


def poisson_weight(unit: int, replicate: int, seed: int) -> int:
    start = mixed(mixed(seed % WORD) ^ (unit % WORD))
    uniform = mixed((start + (replicate + 1) * 0x9E3779B97F4A7C15) % WORD) / WORD
    weight, reached = 0, math.exp(-1)
    while uniform >= reached:
        weight += 1
        reached += math.exp(-1) / math.factorial(weight)
    return weight


def mean_interval(values, identities, replicates: int, seed: int, level: float):
    units = [-1 - i if identities is None or identities[i] < 0 else int(identities[i])
             for i in range(len(values))]  # fmt: skip
    means = []
    for replicate in range(replicates):
        drawn = [
            value
            for value, unit in zip(values, units, strict=True)
            for _ in range(poisson_weight(unit, replicate, seed))
            if not math.isnan(value)
        ]
        if drawn:
            means.append(sum(drawn) / len(drawn))
    known = [value for value in values if not math.isnan(value)]
    tail = (1 - level) / 2
    return sum(known) / len(known), *np.quantile(means, [tail, 1 - tail])


def benjamini_hochberg(p_values: list[float]) -> list[float]:
    tested = [p for p in p_values if not math.isnan(p)]
    return [
        math.nan
        if math.isnan(p)
        else min(
            other * len(tested) / sum(each <= other for each in tested)
            for other in tested
            if other >= p
        )
        for p in p_values
    ]
