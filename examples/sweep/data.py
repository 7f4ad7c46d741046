"""Write the handwritten digits that come with scikit-learn to a folder: data.py TARGET

1,797 pictures of 8 x 8 pixels as pictures.npy, the digit that each shows as digits.npy. Nothing is downloaded or made up.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

target = Path(sys.argv[1])
target.mkdir(parents=True, exist_ok=True)
digits = load_digits()
np.save(target / "pictures.npy", digits.data.astype(np.uint8))
np.save(target / "digits.npy", digits.target.astype(np.uint8))
