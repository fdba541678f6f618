"""The figures of the page, drawn from what the run folder holds."""

from functools import partial

import numpy as np

from maskatlas import figures
from maskatlas.analysis import Atlas
from maskatlas.files import write_atomically
from maskatlas.metrics import METRICS
from maskatlas.report.judged import FLOORS
from maskatlas.report.judgements import Judgements
from maskatlas.report.pictures import Draw, Picture, figure_picture
from maskatlas.report.run import Classifier, Run

WIDE = 7.0
"""Width in inches of a figure over the whole page."""
HALF = 3.6
"""Width of one of two figures side by side."""
FOLDER = "figures"
"""Where in the run folder the figures lie that are not of the atlas."""
OF_ATLAS = (
    "channels",
    "channels_clustered",
    "channels_centred",
    "attributes",
    "attributes_centred",
    "dendrogram",
    "importance",
)
FIGURES = ("training", "accuracy", *OF_ATLAS, "faithfulness", "channel_removal", "mask_exchange")


def draw_figures(run: Run, classifier: Classifier | None) -> dict[str, Picture | None]:
    """Draw what there are numbers for; None for the rest.

    The figures of training, accuracy and explanations are also written into the run folder as PNG
    files; those of the atlas lie in its folder since it was made.
    """
    drawn: dict[str, Picture | None] = dict.fromkeys(FIGURES)
    if run.steps or run.epochs:
        drawn["training"] = _kept(
            run,
            "training",
            partial(figures.training_curves, run.steps, run.epochs),
            "Loss, validation scores and masks over the epochs of the training",
            WIDE,
        )
    if classifier is not None and classifier.attributes:
        drawn["accuracy"] = _kept(
            run,
            "accuracy",
            partial(figures.accuracy_chart, _scores(classifier)),
            "Accuracy, balanced accuracy and AUROC of each attribute; table 3 has the numbers",
            WIDE,
        )
    if run.atlas is not None:
        drawn |= _of_atlas(run.atlas)
    if run.evaluation is not None and run.evaluation.judgements is not None:
        drawn |= _of_judgements(run, run.evaluation.judgements)
    return {f"{name}_figure": picture for name, picture in drawn.items()}


def _kept(run: Run, name: str, draw: Draw, alt: str, width: float) -> Picture:
    """Draw a figure for the page, and as a file."""
    path = run.folder / FOLDER / f"{name}.png"
    write_atomically(path, figures.encoded(draw(theme=figures.LIGHT, width=width), "png"))
    return figure_picture(draw, alt, width=width)


def _scores(classifier: Classifier) -> dict[str, dict[str, float | int | None]]:
    fields = (*METRICS, "positives", "negatives")
    return {
        name: {field: getattr(score, field) for field in fields}
        for name, score in classifier.attributes.items()
    }


def _of_judgements(run: Run, found: Judgements) -> dict[str, Picture]:
    pixels, channels, exchange = found.faithfulness, found.channel_faithfulness, found.mask_exchange
    drawn = {}
    if pixels is not None and pixels.insertion:
        coming, going = "insertion: pixels come", "deletion: pixels go"
        drawn["faithfulness"] = _kept(
            run,
            "faithfulness",
            partial(
                figures.share_curves,
                {coming: pixels.insertion, going: pixels.deletion},
                along="pixels, %",
                faint=FLOORS,
            ),
            "Probability of the attribute as pixels come and go in the order of each map",
            WIDE,
        )
    if channels is not None:
        logit, area = (
            {order: getattr(channels.removal[order], kind) for order in sorted(channels.removal)}
            for kind in ("logit", "auroc")  # sorted: contribution and mask keep their colours
        )
        drawn["channel_removal"] = _kept(
            run,
            "channel_removal",
            partial(
                figures.share_curves,
                {"mean logit of positives": logit, "AUROC": area},
                along="channels gone, %",
                faint=FLOORS,
            ),
            "Logit and AUROC that are left as channels go, the most important first",
            WIDE,
        )
    if exchange is not None and len(exchange.attributes) > 1:
        drawn["mask_exchange"] = _kept(
            run,
            "mask_exchange",
            partial(figures.mask_exchange, exchange.attributes, np.array(exchange.logit)),
            "Change of the logit of each attribute that is given the mask of each other",
            WIDE,
        )
    return drawn


def _of_atlas(atlas: Atlas) -> dict[str, Picture]:
    channels = partial(figures.channel_correlation, atlas)
    attributes = partial(figures.attribute_correlation, atlas)
    words = f"Correlation of {atlas.channels} channels"
    between = f"Correlation of {len(atlas.attributes)} attributes"
    drawn = {
        "channels": figure_picture(
            partial(channels, clustered=False), f"{words}, in the order of their ids", width=HALF
        ),
        "channels_clustered": figure_picture(
            channels, f"{words}, ordered so that like stands by like", width=HALF
        ),
        "channels_centred": figure_picture(
            partial(channels, centred=True), f"{words}, centred and ordered", width=HALF
        ),
        "importance": figure_picture(
            partial(figures.importance_agreement, atlas),
            "Rank correlation of the readings of importance, for each attribute",
            width=WIDE,
        ),
    }
    if len(atlas.attributes) > 1:
        drawn["attributes"] = figure_picture(
            attributes, f"{between}, ordered so that like stands by like", width=WIDE
        )
        drawn["attributes_centred"] = figure_picture(
            partial(attributes, centred=True), f"{between}, centred and ordered", width=WIDE
        )
        drawn["dendrogram"] = figure_picture(
            partial(figures.dendrogram, atlas), "Dendrogram of the attributes", width=WIDE
        )
    return drawn
