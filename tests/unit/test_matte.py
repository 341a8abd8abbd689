"""A scene without a subject is told from one with a faint or a small subject."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cutray.config import MattingSettings
from cutray.matting.matte import Subject, calibrate, find_subject
from tests.alphas import soft_disc

SETTINGS = MattingSettings()


def _map(level: float) -> np.ndarray:
    """Return a soft disc of a given highest probability on a background that the network has ruled out."""
    return soft_disc(320, 320, 60) * np.float32(level) + np.float32(0.01)


def test_clear_subject_is_found() -> None:
    """A disc of high probability is a subject, and its area is the disc's."""
    subject = find_subject(_map(0.98), SETTINGS)
    assert subject.found
    assert subject.score > 0.85
    assert 0.7 < subject.confidence < subject.score
    assert subject.area_fraction == pytest.approx(np.pi * 60**2 / 320**2, rel=0.02)


def test_flat_doubt_is_no_subject() -> None:
    """A map that is nowhere more than a guess holds no subject, although a stretch would make one of it."""
    noise = np.random.default_rng(0).uniform(0, 0.3, (320, 320)).astype(np.float32)
    subject = find_subject(noise, SETTINGS)
    assert not subject.found
    assert subject.confidence == subject.score < 0.3
    assert subject.area_fraction == 0


def test_nothing_noticed_means_no_confidence() -> None:
    """A map of zeros has confidence and area 0."""
    subject = find_subject(np.zeros((320, 320), np.float32), SETTINGS)
    assert subject == Subject(False, 0.0, 0.0, 0.0)


def test_faint_subject_depends_on_the_limit() -> None:
    """The lowest score that counts is a setting, on the scale that it has always had."""
    probs = _map(0.6)
    score = find_subject(probs, SETTINGS).score
    assert score == float(probs[probs > 0.1].mean())
    assert find_subject(probs, MattingSettings(min_confidence=score - 0.01)).found
    assert not find_subject(probs, MattingSettings(min_confidence=score + 0.01)).found


def test_speck_is_no_subject() -> None:
    """A subject smaller than the least area is none, however sure the network is."""
    probs = np.zeros((320, 320), np.float32)
    probs[:2, :3] = 1
    assert not find_subject(probs, SETTINGS).found
    assert find_subject(probs, MattingSettings(min_area_fraction=1e-5)).found


def test_whole_picture_may_be_subject() -> None:
    """A picture filled by its subject is no empty scene."""
    subject = find_subject(np.full((320, 320), 0.99, np.float32), SETTINGS)
    assert subject.found
    assert subject.area_fraction == 1


def test_confidence_rises_with_the_score_and_is_no_higher_where_it_was_too_high() -> None:
    """What scored .90 to .93 overlapped by .82 on average; the extremes stay in range."""
    scores = np.linspace(0, 1, 101)
    confidences = [calibrate(float(score)) for score in scores]
    assert all(one <= two for one, two in itertools.pairwise(confidences))
    assert 0 <= confidences[0] < 0.05 and 0.95 < confidences[-1] <= 1
    assert calibrate(0.92) == pytest.approx(0.82, abs=0.01)
