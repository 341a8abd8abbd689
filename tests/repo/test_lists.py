"""What is named in several places is named in all of them: who adds one is told where it is missing."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from cutray import removal
from cutray.config import EngineSettings, RemoverSettings, TrainSettings
from cutray.data.synthetic import CASES
from cutray.engines.hardware import _PACKAGES
from cutray.engines.select import PACKAGES
from cutray.imaging.encode import FORMATS
from cutray.imaging.photo_files import PHOTO_SUFFIXES
from cutray.matting.detect import EDGE_CASES
from cutray.matting.edge_map import _COLOURS
from cutray.models.catalog import list_models


def _choices(settings: Any, name: str) -> set[str]:
    """Return what a setting allows, but for `auto`."""
    return set(get_args(settings.model_fields[name].annotation)) - {"auto"}


def test_output_formats() -> None:
    """The setting, the encoder, `result.image`, and the endpoint's media types and endings."""
    responses = pytest.importorskip("serve_apps.remover.responses", reason="the endpoint needs the extra 'serve'")
    formats = set(FORMATS.values())
    assert {name.upper() for name in _choices(RemoverSettings, "format")} == formats
    assert set(removal._PLUGINS) == formats
    assert set(responses.MEDIA) == set(responses.ENDINGS) == formats


def test_input_formats() -> None:
    """The endings that folders are searched for are those that the page takes."""
    routes = pytest.importorskip("serve_apps.remover.page_routes", reason="the endpoint needs the extra 'serve'")
    assert {f".{ending}" for _, endings in routes.FORMATS.values() for ending in endings} == set(PHOTO_SUFFIXES)


def test_engines() -> None:
    """The setting, the packages that engines need, and those whose versions are looked up."""
    assert _choices(EngineSettings, "engine") == set(PACKAGES)
    assert set(PACKAGES.values()) <= set(_PACKAGES)


def test_edge_cases() -> None:
    """Each one that is detected can be drawn as a scene, chosen for training, and shown in a color."""
    assert set(EDGE_CASES) <= set(CASES)
    assert set(_COLOURS) == set(EDGE_CASES)
    (choices, _) = get_args(type(TrainSettings().data).model_fields["cases"].annotation)
    assert get_args(choices) == CASES


def test_architectures_have_weights() -> None:
    """What can be trained is the architecture of a published model."""
    assert _choices(TrainSettings, "architecture") <= {spec.architecture for spec in list_models()}
