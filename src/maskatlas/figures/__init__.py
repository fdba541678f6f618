"""Arrays as pictures: every figure is a matplotlib ``Figure``, drawn without pyplot.

Figures are transparent and take their colours from a :class:`Theme`, so that they stand on light
and on dark paper. ``width`` is in inches: 7 for a whole page, 3.4 for a phone.
"""

from maskatlas.figures.accuracy import accuracy_chart
from maskatlas.figures.bench import growth_chart
from maskatlas.figures.colours import diverging_colours, grid_shape, mask_colours, outlined, overlay
from maskatlas.figures.correlations import attribute_correlation, channel_correlation, dendrogram
from maskatlas.figures.explanation import explain_picture
from maskatlas.figures.grids import mask_grids, mask_limit
from maskatlas.figures.importance import importance_agreement, importance_readings
from maskatlas.figures.judgement import mask_exchange, share_curves
from maskatlas.figures.overlays import aligned, best_example, top_channel_overlays
from maskatlas.figures.saving import encoded, indexed, save_figures, slug
from maskatlas.figures.style import DARK, LIGHT, Theme, shown
from maskatlas.figures.training import training_curves

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "accuracy_chart",
    "aligned",
    "attribute_correlation",
    "best_example",
    "channel_correlation",
    "dendrogram",
    "diverging_colours",
    "encoded",
    "explain_picture",
    "grid_shape",
    "growth_chart",
    "importance_agreement",
    "importance_readings",
    "indexed",
    "mask_colours",
    "mask_exchange",
    "mask_grids",
    "mask_limit",
    "outlined",
    "overlay",
    "save_figures",
    "share_curves",
    "shown",
    "slug",
    "top_channel_overlays",
    "training_curves",
]
