"""Networks of different kinds as one model: ``u2netp+u2netp-distilled`` and the like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cutray import BackgroundRemover, remove
from cutray.errors import UnknownModelError
from cutray.log_odds import average_by_certainty
from cutray.models.weights import list_models, locate, resolve
from tests.conftest import require_weights

NAME = "u2netp+u2netp-distilled"


@pytest.fixture(scope="module")
def voters() -> BackgroundRemover:
    """Return a remover with two small networks."""
    require_weights("u2netp")
    return BackgroundRemover(NAME, offline=True)


def test_the_map_is_the_mean_of_the_members(voters: BackgroundRemover, photos: dict[str, np.ndarray]) -> None:
    """Averaged as log-odds by their certainty, as each member alone would see the photo."""
    photo = photos["chelsea"]
    (both,) = voters.segmenter.segment([photo])
    single = [BackgroundRemover(name, offline=True).segmenter.segment([photo])[0] for name in NAME.split("+")]
    # The photo passes through 320 pixels of 8 bits first, which moves single values by less than a level or two.
    assert np.abs(both - average_by_certainty(single)).mean() < 0.005
    assert np.abs(single[0] - single[1]).mean() > 0.01


def test_the_report_names_all_members(voters: BackgroundRemover, photo_files: Path) -> None:
    """A result says which networks made it."""
    report = voters.remove_background(photo_files / "chelsea.jpg").report
    assert report.model == NAME
    assert report.subject_found


def test_an_ensemble_is_described_by_its_members() -> None:
    """Its hash follows from theirs, its licence names each, and its order does not matter to the size."""
    require_weights("u2netp")
    one, other = resolve(NAME, offline=True), resolve("u2netp-distilled+u2netp", offline=True)
    assert one.sha256 != other.sha256
    assert one.size_bytes == other.size_bytes == sum(member.path.stat().st_size for member in one.members)
    assert one.spec.license == "Apache-2.0"
    assert one.spec.input_size_px == 320


@pytest.mark.parametrize("name", ["u2netp-distilled+", "u2netp-distilled+u2netp-distilled", "u2netp-distilled+nothing"])
def test_what_is_no_ensemble(name: str) -> None:
    """A member that is missing, unknown or named twice is an error that says so."""
    with pytest.raises(UnknownModelError):
        resolve(name, offline=True)


def test_best_runs_two_networks_where_they_are(photo_files: Path) -> None:
    """Asked for in one call it takes both; a remover that is made keeps the network that it was made with."""
    require_weights("u2net")
    second = locate(next(spec for spec in list_models() if spec.name == "isnet"))
    photo = photo_files / "chelsea.jpg"
    assert remove(photo, quality="best").report.model == ("u2net" if second is None else "u2net+isnet")
    assert remove(photo, quality="fast").report.model == "u2net-lean-288"
    assert BackgroundRemover(offline=True).remove_background(photo, quality="best").report.model == "u2net-lean"
