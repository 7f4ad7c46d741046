"""Visual words: what each part of a picture looks like, by a vocabulary that is learnt when the process starts.

As a module, `words` is a pipeline whose worker loads the model once. As a program, features.py SOURCE TARGET does one picture, and
loads the model for it: the same work, cold.
"""

import io
import sys
from pathlib import Path

import numpy as np
import paddock
import skimage
from PIL import Image
from skimage.color import rgb2gray
from skimage.feature import hog
from sklearn.cluster import MiniBatchKMeans

TRAINED_ON = ("camera.png", "astronaut.png", "brick.png", "grass.png", "page.png")
WORDS = 64


def descriptors(picture: Image.Image) -> np.ndarray:
    """Histograms of oriented gradients, a row for each block of 16 x 16 pixels."""
    grey = rgb2gray(np.asarray(picture.convert("RGB")))
    blocks = hog(grey, pixels_per_cell=(8, 8), cells_per_block=(2, 2), feature_vector=False)
    return blocks.reshape(-1, 4 * 9)


def load_model() -> MiniBatchKMeans:
    """Learn the vocabulary from photographs inside the scikit-image package."""
    folder = Path(skimage.__file__).parent / "data"
    seen = np.concatenate([descriptors(Image.open(folder / name)) for name in TRAINED_ON])
    return MiniBatchKMeans(WORDS, random_state=0, n_init=1).fit(seen)


MODEL = load_model()


def histogram(picture: Image.Image) -> str:
    counts = np.bincount(MODEL.predict(descriptors(picture)), minlength=WORDS)
    return ",".join(map(str, counts)) + "\n"


@paddock.pipeline(input=paddock.glob("pictures", "/*.png", name="picture"), name="words", env={"OMP_NUM_THREADS": "1"})
def words(picture: bytes) -> str:
    """How often each visual word occurs in a picture."""
    return histogram(Image.open(io.BytesIO(picture)))


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    (target / source.name).write_text(histogram(Image.open(source)))
