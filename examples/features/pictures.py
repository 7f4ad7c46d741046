"""Cut photographs that come with scikit-image into tiles: pictures.py TARGET [COUNT]

Only files inside the installed package are taken; nothing is downloaded. No picture is made up.
"""

import sys
from itertools import islice
from pathlib import Path

import skimage
from PIL import Image

NAMES = ("chelsea.png", "coffee.png", "coins.png", "gravel.png", "moon.png", "motorcycle_left.png", "rocket.jpg", "text.png")
SIDE = 96


def tiles():
    for name in NAMES:
        with Image.open(Path(skimage.__file__).parent / "data" / name) as picture:
            for top in range(0, picture.height - SIDE + 1, SIDE):
                for left in range(0, picture.width - SIDE + 1, SIDE):
                    tile = picture.crop((left, top, left + SIDE, top + SIDE))
                    yield f"{Path(name).stem}-{top:04d}-{left:04d}.png", tile


target = Path(sys.argv[1])
target.mkdir(parents=True, exist_ok=True)
for name, tile in islice(tiles(), int(sys.argv[2]) if len(sys.argv) > 2 else None):
    tile.save(target / name)
