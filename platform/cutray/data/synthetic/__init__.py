"""Drawn product photos with exact alpha channels, for training and for measuring edges.

>>> import numpy as np
>>> scene = draw_scene("texture", np.random.default_rng(7), 320, 320)
>>> scene.image.shape, scene.alpha.dtype
((320, 320, 3), dtype('float32'))
"""

from cutray.data.synthetic.context import Family
from cutray.data.synthetic.scene import CASES, FAMILIES, CaseName, Scene, draw_scene

__all__ = ["CASES", "FAMILIES", "CaseName", "Family", "Scene", "draw_scene"]
