"""Slow twin of the choice of examples: sets of attributes, in plain Python."""

import math


def choose_examples(scores: list[list[float]], labels: list[list[float]], most: int) -> list[int]:
    def shown(image: int) -> set[int]:
        return {
            k
            for k, (score, label) in enumerate(zip(scores[image], labels[image], strict=True))
            if score > 0 and (label == 1 or math.isnan(label))
        }

    chosen: list[int] = []
    missing = set(range(len(scores[0])))
    while len(chosen) < most:
        rest = [image for image in range(len(scores)) if image not in chosen]
        if not rest:
            break

        def worth(image: int, missing: set[int] = missing) -> tuple[int, float]:
            new = sorted(shown(image) & missing)
            return len(new), sum(math.tanh(scores[image][k]) for k in new)

        most_new = max(worth(image)[0] for image in rest)
        if not most_new and chosen:
            if missing == set(range(len(scores[0]))):
                break
            missing = set(range(len(scores[0])))
            continue
        equals = [image for image in rest if worth(image)[0] == most_new]
        clearest = max(worth(image)[1] for image in equals)
        best = next(image for image in equals if worth(image)[1] >= clearest - 1e-12)
        chosen.append(best)
        missing = missing - shown(best)
    return chosen
