"""Real handwriting: the 1,797 digits of 8x8 pixels that come with scikit-learn.

They are the test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).
Samples are held out before any is rendered. They are kept in a small file beside this module, so that the accuracy
through a running stack can be measured without scikit-learn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

HELD_OUT_FILE: Final = Path(__file__).parent / "data" / "digits_heldout.npz"
HELD_OUT_SAMPLES: Final = 450
_SPLIT_SEED: Final = 20_260_101


class Handwriting(NamedTuple):
    """Samples with their numbers in scikit-learn's set."""

    images: NDArray[np.uint8]  # [n, 8, 8], 0 paper to 16 ink
    digits: NDArray[np.uint8]  # [n]
    numbers: NDArray[np.int16]  # [n]


def split() -> tuple[Handwriting, Handwriting]:
    """Training and held-out samples. Needs scikit-learn."""
    from sklearn.datasets import load_digits

    source = load_digits()
    numbers = np.random.default_rng(_SPLIT_SEED).permutation(len(source.target)).astype(np.int16)
    images, digits = source.images.astype(np.uint8), source.target.astype(np.uint8)
    held_out, training = np.sort(numbers[:HELD_OUT_SAMPLES]), np.sort(numbers[HELD_OUT_SAMPLES:])
    return (
        Handwriting(images[training], digits[training], training),
        Handwriting(images[held_out], digits[held_out], held_out),
    )


def write_held_out(samples: Handwriting, file: Path) -> None:
    """Write the file that `read_held_out` reads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, images=samples.images, digits=samples.digits, numbers=samples.numbers)


def read_held_out(file: Path = HELD_OUT_FILE) -> Handwriting:
    """Read the samples that no model was trained on."""
    with np.load(file) as stored:
        return Handwriting(stored["images"], stored["digits"], stored["numbers"])
