from dataclasses import replace

import numpy as np

from maskatlas.report import channels, confidence
from sample_run import make_atlas, names


def test_causes_are_of_the_pairs_shown_and_of_others_that_are_confused() -> None:
    atlas = make_atlas(names(9), 6, examples=0, replicates=20)
    follows = np.full((9, 9), 0.01)
    follows[7, 1], follows[2, 8], follows[0, 1] = 0.4, -0.6, 0.9
    atlas = replace(
        atlas,
        label_correlation=np.where(np.arange(9)[:, None] + np.arange(9) == 8, 0.5, 0.0),
        confidence=replace(
            atlas.confidence,
            following=follows,
            following_p=np.where(abs(follows) > 0.1, 1e-9, 0.8),
            label_correlation_p=np.where(np.arange(9)[:, None] + np.arange(9) == 8, 1e-9, 0.9),
        ),
    )
    shown = channels.pairs(atlas)
    found = confidence.causes(atlas, shown)
    assert [(p.first, p.second) for p in found.alike] == [(p.first, p.second) for p in shown]
    assert dict(found.counts) == {"labels": 3, "network": 2, "both": 1, "neither": 30}
    told = {(p.first, p.second) for p in found.confused}
    everyone = {("Attribute_0", "Attribute_1"), ("Attribute_2", "Attribute_8"),
                ("Attribute_1", "Attribute_7")}  # fmt: skip
    assert told == everyone - {(p.first, p.second) for p in found.alike}
    strength = [abs(p.following.value) for p in found.confused]
    assert strength == sorted(strength, reverse=True)
    assert confidence.causes(replace(atlas, confidence=None), shown) is None


def test_steady_channels_are_those_whose_worst_place_is_among_the_first() -> None:
    atlas = make_atlas(names(2), 8, examples=0, replicates=20)
    places = np.tile(np.arange(1.0, 9), (2, 2, 1))
    masks = np.tile(np.arange(8, 0, -1) / 10, (2, 1))
    places[1, 0, 3:] += 2  # the fourth and fifth of the first attribute may fall to 6 and 7
    sure = replace(atlas.confidence, mask_rank_interval=places)
    assert confidence.steady_channels(replace(atlas, mask_mean=masks, confidence=sure)) == 4
    assert confidence.steady_channels(replace(atlas, confidence=None)) is None
