"""Copy photographs that come with scikit-image into a folder: pictures.py TARGET [NAME…]

Only files inside the installed package are taken; nothing is downloaded. No picture is made up.
"""

import shutil
import sys
from pathlib import Path

import skimage

NAMES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)

target = Path(sys.argv[1])
target.mkdir(parents=True, exist_ok=True)
for name in sys.argv[2:] or NAMES:
    shutil.copyfile(Path(skimage.__file__).parent / "data" / name, target / name)
