"""Generated scenes: small 3-D rooms with exact depth, masks and questions, from a seed.

>>> from perceptio.data.scenes import Split, scene
>>> scene(Split.TRAIN.seed(base=0, number=7)).image_HW3.shape
(80, 80, 3)
"""

from perceptio.data.scenes.language import words
from perceptio.data.scenes.scene import Asked, Scene, SceneSet, Split, questions, scene

__all__ = ["Asked", "Scene", "SceneSet", "Split", "questions", "scene", "words"]
