"""The figures of the page, drawn from what the run folder holds."""

from functools import partial

from maskatlas import figures
from maskatlas.analysis import Atlas
from maskatlas.files import write_atomically
from maskatlas.metrics import METRICS
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


def draw_figures(run: Run, classifier: Classifier | None) -> dict[str, Picture | None]:
    """Draw what there are numbers for; None for the rest.

    The figures of training and accuracy are also written into the run folder as PNG files; those of
    the atlas lie in its folder since it was made.
    """
    drawn: dict[str, Picture | None] = dict.fromkeys(("training", "accuracy", *OF_ATLAS))
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
