"""Rendered parametric faces: every attribute independent, every region known.

The embedded dataset, and the yardstick for explanations: which pixels show an attribute is not
annotated but drawn.
"""

from maskatlas.sources.faces.dataset import RENDERER, open_faces, split_of_face
from maskatlas.sources.faces.parameters import ATTRIBUTES, FaceParameters, draw_face
from maskatlas.sources.faces.portrait import render_face, render_image

__all__ = [
    "ATTRIBUTES",
    "RENDERER",
    "FaceParameters",
    "draw_face",
    "open_faces",
    "render_face",
    "render_image",
    "split_of_face",
]
