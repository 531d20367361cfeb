"""Datasets with keys of their samples' content, so that a second run need not decode them."""

from frostline.data.arrays import Arrays as Arrays
from frostline.data.arrays import load_arrays as load_arrays
from frostline.data.classes import class_names as class_names
from frostline.data.classes import with_classes_of as with_classes_of
from frostline.data.images import ImageFolder as ImageFolder
from frostline.data.labels import labels_of as labels_of
from frostline.data.subsets import Part as Part
from frostline.data.subsets import split_share as split_share
from frostline.data.transforms import CenterCrop as CenterCrop
from frostline.data.transforms import RandomCrop as RandomCrop
