"""Which feature looks where, for which attribute?

The public names are loaded when they are first used, so that ``import maskatlas`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from maskatlas._version import __version__

if TYPE_CHECKING:
    from maskatlas.analysis import Atlas
    from maskatlas.atlas_making import analyze
    from maskatlas.evaluation import evaluate_explanations
    from maskatlas.explanations import explain
    from maskatlas.model import AttributeNetwork
    from maskatlas.report import write_report
    from maskatlas.sources import open_dataset

_HOME = {
    "Atlas": "maskatlas.analysis",
    "AttributeNetwork": "maskatlas.model",
    "analyze": "maskatlas.atlas_making",
    "evaluate_explanations": "maskatlas.evaluation",
    "explain": "maskatlas.explanations",
    "open_dataset": "maskatlas.sources",
    "write_report": "maskatlas.report",
}

__all__ = [
    "Atlas",
    "AttributeNetwork",
    "__version__",
    "analyze",
    "evaluate_explanations",
    "explain",
    "open_dataset",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'maskatlas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
