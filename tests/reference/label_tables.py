"""A plain reader of CelebA's table, for tables without errors."""

import numpy as np


def read(text: str) -> tuple[list[str], list[str], np.ndarray]:
    lines = text.splitlines()
    attributes = lines[1].split()
    names: list[str] = []
    labels = np.zeros((len(lines) - 2, len(attributes)), np.float32)
    for row, line in enumerate(lines[2:]):
        name, *values = line.split()
        names.append(name)
        for column, value in enumerate(values):
            labels[row, column] = 1 if int(value) == 1 else 0
    return attributes, names, labels
