"""The fingerprint of training data: what its photos are like, so that the photos of later days can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cutray.config import InputLimits
from cutray.data.catalog import Pair
from cutray.errors import CutrayError
from cutray.evaluation.datasets import Sample, read_truth
from cutray.evaluation.drift import Fingerprint, features_of
from cutray.evaluation.photo_features import measure_photo
from cutray.imaging.decode import decode_image
from cutray.imaging.files import read_bytes

# So many photos give histograms that are as good as those of all, in seconds.
_MOST, _THREADS = 300, 4
_LIMITS = InputLimits()


def fingerprint_of(pairs: Sequence[Pair], most: int = _MOST) -> Fingerprint | None:
    """Measure photos and their true masks.

    What a network says of photos, confidence above all, is not part of it: of photos that it has learnt from it is
    surer than of any others.

    Args:
        pairs: What a run learns from.
        most: Most photos that are looked at, evenly spaced.

    Returns:
        Brightness, sharpness, size, area of the subject, and the share of photos without one; None where no pair can
        be read, as in a run on drawn scenes alone.
    """
    chosen = [pairs[index * len(pairs) // most] for index in range(most)] if len(pairs) > most else list(pairs)
    made = Fingerprint(made_from=f"{len(chosen)} of {len(pairs)} training photos")
    with ThreadPoolExecutor(_THREADS) as pool:
        for values in pool.map(_values_of, chosen):
            made.add_all(values)
    return made if made.photos() else None


def _values_of(pair: Pair) -> dict[str, float]:
    """Measure one pair; nothing where it cannot be read, which the run itself tells."""
    sample = Sample("", Path(pair.image), Path(pair.mask), frozenset(), pair.encoding, pair.turn)
    try:
        image = decode_image(read_bytes(pair.image, _LIMITS), _LIMITS).pixels
        subject = read_truth(sample) > 0.5
    except (CutrayError, OSError):
        return {}
    values = features_of(measure_photo(image), found=bool(subject.any()), confidence=0.0, area=float(subject.mean()))
    return {name: value for name, value in values.items() if name != "confidence"}
