"""Random changes of images and their labels, for training on few of them.

>>> import numpy as np
>>> from medseg_fast import augment
>>> augmenter = augment.Augmenter(rotation=20, scale=1.3, flip=True, noise=0.1)
>>> image, label = np.zeros((1, 64, 64), np.float32), np.zeros((64, 64), np.uint8)
>>> new, new_label = augmenter(image, label, seed=1)
>>> new.shape, new.dtype, new_label.dtype
((1, 64, 64), dtype('float32'), dtype('uint8'))

`Augmenter` composes all changes of place (crop, flips, rotation, scale, elastic deformation) in one
resampling, so an image is interpolated once and its labels stay in step; `standard` is one with
settings that suit most scans.
"""

from medseg_fast.augment._augmenter import Augmenter, standard

__all__ = ["Augmenter", "standard"]
