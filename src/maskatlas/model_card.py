"""The README.md of a model folder: what the network is, and how right it was when it was saved."""

from collections.abc import Sequence

from maskatlas._version import __version__
from maskatlas.config import Config
from maskatlas.metrics import METRICS, Metrics
from maskatlas.sources.listing import split_of

_CARD = """---
library_name: maskatlas
tags: [interpretability, attention, multi-label, attributes]
---

# {count} attributes from images of {size} x {size} pixels

A network of maskatlas {version}: extractor `{extractor}` with {channels} channels, {parts}.
Trained on {source} ({splits}), seed {seed}; the weights are those after epoch {epoch} of
{epochs}.

```python
import maskatlas, PIL.Image
network = maskatlas.AttributeNetwork.from_pretrained("this folder")
image = network.preprocess(PIL.Image.open("photo.jpg"))
logits = network(image[None]).scores
```

## Measured on {validation}

| | accuracy | balanced accuracy | F1 | average precision | AUROC |
|---|---|---|---|---|---|
{rows}

Means run over the attributes for which a number is defined; `-` where a class is missing.
What such a network says of a person is a guess about an image, learned from labels that people
gave; it is no fact about that person.
"""


def model_card(
    config: Config, attributes: Sequence[str], metrics: Metrics, *, epoch: float, split: str
) -> str:
    """Return the card in Markdown.

    Args:
        config: Of the run.
        attributes: Names, in the order of the metrics.
        metrics: On the validation images.
        epoch: How many epochs the weights have seen.
        split: What the validation images are called.
    """
    mean = metrics.mean()
    rows = [_row("**mean**", [mean[column] for column in METRICS])]
    for index, name in enumerate(attributes):
        values = [float(getattr(metrics, column)[index]) for column in METRICS]
        rows.append(_row(_escaped(name), values))
    parts = {
        "sub-networks": config.model.subnetworks,
        "multi-label classifier": config.model.multilabel,
        "reconstructor": config.model.reconstructor,
    }
    overlap = split_of(split) in map(split_of, config.train.splits)
    return _CARD.format(
        version=__version__,
        count=len(attributes),
        size=config.model.image_size,
        extractor=config.model.extractor,
        channels=config.model.channels,
        parts=", ".join(name for name, there in parts.items() if there),
        source=_code(config.data.path.rstrip("/").rsplit("/", 1)[-1]),
        splits=", ".join(config.train.splits),
        seed=config.seed,
        epoch=f"{epoch:.4g}",
        epochs=f"{config.train.epochs:.4g}",
        validation=_code(split) + (", images it was trained on" if overlap else ""),
        rows="\n".join(rows),
    )


def _row(name: str, values: Sequence[float]) -> str:
    cells = ["-" if value != value else f"{value:.4f}" for value in values]
    return f"| {name} | " + " | ".join(cells) + " |"


def _code(text: str) -> str:
    """Return a text as code, in which Markdown knows no other mark than the one that ends it."""
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def _escaped(name: str) -> str:
    """Return a name as text that Markdown leaves alone."""
    marks = {ord(mark): f"\\{mark}" for mark in "\\`*_{}[]<>()#+-.!|$&~"}
    return name.translate(marks).replace("\n", " ")
