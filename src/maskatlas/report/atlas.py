"""Everything that the templates say of the atlas."""

from typing import Any

from maskatlas import pairs
from maskatlas.analysis import Atlas
from maskatlas.report import attributes, channels, confidence, overlays, summary
from maskatlas.report.run import Run

EFFECTS = {"drop": "drop in AUROC", "contribution": "contribution"}
"""What the effect of a channel is called, by the reading it is taken from."""


def no_atlas_facts(run: Run) -> dict[str, Any]:
    """Return what the templates need to say that there is no atlas."""
    empty = ("agreement", "chosen", "disagreements", "groups", "pairs", "unused")
    return {
        "atlas": None,
        "causes": None,
        "confidence": None,
        "channels": run.config.model.channels if run.config else None,
        "measured_drop": False,
        "overlays": None,
        **dict.fromkeys(empty, ()),
    }


def atlas_facts(atlas: Atlas) -> dict[str, Any]:
    """Return the facts of all sections that show the atlas."""
    ranked = channels.importance_rows(atlas)
    several = len(atlas.attributes) > 1
    recurrence = atlas.group_recurrence() if several else ()
    groups = tuple(row.attributes for row in recurrence) or (atlas.attributes,)
    shown = channels.pairs(atlas)
    return {
        "agreement": tuple(summary.median_agreement(ranked).items()),
        "atlas": atlas,
        "causes": confidence.causes(atlas, shown),
        "confidence": atlas.confidence,
        "attribute_rows": attributes.attribute_rows(atlas),
        "centred_rows": attributes.attribute_rows(atlas, centred=True),
        "channel_rows": channels.channel_rows(atlas),
        "channels": atlas.channels,
        "chosen": channels.choices(atlas),
        "disagreements": channels.disagreements(atlas),
        "effect_name": EFFECTS[channels.causal(atlas)],
        "grids": overlays.grids(atlas),
        "groups": recurrence,
        "importance_rows": ranked,
        "like_labels": attributes.agreement_with_labels(
            atlas.attribute_correlation, atlas.label_correlation
        ),
        "linked_pair": channels.linked_pair(atlas),
        "measured_drop": atlas.importance_drop is not None,
        "neighbours": channels.NEIGHBOURS,
        "overlays": atlas.examples and overlays.overlays(atlas, atlas.examples, groups),
        "pair_top": channels.pair_top(atlas),
        "pairs": shown,
        "paper_absent": attributes.absent(atlas),
        "paper_rows": attributes.paper_rows(atlas),
        "reading_titles": tuple((key, channels.READINGS[key]) for key in atlas.readings),
        "rate": pairs.RATE,
        "small": pairs.SMALL,
        "steady": confidence.steady_channels(atlas),
        "top": channels.TOP,
        "unused": channels.unused_channels(atlas),
    }
