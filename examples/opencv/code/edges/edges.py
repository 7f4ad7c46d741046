"""Draw the outlines of a picture, or of every picture in a folder: edges.py SOURCE TARGET

Each picture is smoothed with three brushes and outlines are found after each one. What shows after more of them
is drawn darker: fine texture fades, shapes stay. Large pictures are made smaller first.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.color import rgb2gray
from skimage.feature import canny
from skimage.filters import median
from skimage.morphology import disk

BRUSHES = (1, 2, 4)  # radius in pixels
LONGEST_SIDE = 640


def outlines(picture):
    grey = rgb2gray(np.asarray(picture.convert("RGB")))
    seen = sum(canny(median(grey, disk(radius)), sigma=1.5).astype(int) for radius in BRUSHES)
    return Image.fromarray((255 - 255 * seen // len(BRUSHES)).astype(np.uint8))


source, target = map(Path, sys.argv[1:])
for path in sorted(source.iterdir()) if source.is_dir() else [source]:
    print(f"outlines of {path.name}")
    with Image.open(path) as picture:
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        outlines(picture).save(target / f"{path.stem}.png")
