"""Lay pictures and their outlines out on one sheet: montage.py PICTURES OUTLINES TARGET"""

import sys
from pathlib import Path

from PIL import Image

COLUMNS = 6
SIDE = 160


def thumbnail(path):
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    return small


pictures, outlines, target = map(Path, sys.argv[1:])
pairs = [(path, outlines / f"{path.stem}.png") for path in sorted(pictures.iterdir())]
tiles = [thumbnail(path) for pair in pairs for path in pair if path.exists()]
rows = -(-len(tiles) // COLUMNS)
sheet = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE), "white")
for index, tile in enumerate(tiles):
    row, column = divmod(index, COLUMNS)
    sheet.paste(tile, (column * SIDE + (SIDE - tile.width) // 2, row * SIDE + (SIDE - tile.height) // 2))
sheet.save(target)
print(f"{len(tiles)} pictures on a sheet of {sheet.width} x {sheet.height}")
