"""Which networks the qualities run: `best` a second one only where it is, and none against what somebody has named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from cutray.config import RemoverSettings, parse_settings
from cutray.models.preset_networks import name_networks


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache, and no folders of rembg."""
    for name in ("CUTRAY_HOME", "U2NET_HOME", "REMBG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def _put_second_network(cache: Path) -> None:
    """Have a file where the second network is kept; only loading would read it."""
    (cache / "models").mkdir()
    (cache / "models" / "isnet.onnx").touch()


def _named(**values: Any) -> str:
    """Return the model that settings come out with."""
    return name_networks(parse_settings(RemoverSettings, values)).model


def test_best_runs_both_networks_where_they_are(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the weights at hand nothing is to be said."""
    _put_second_network(cache)
    assert _named(quality="best") == "u2net+isnet"
    assert not caplog.records


def test_best_without_the_second_network_says_what_is_missing(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It runs U²-Net, fetches nothing, and names the command and the licence; once, not for every process after."""
    with caplog.at_level(logging.WARNING):
        settings = name_networks(parse_settings(RemoverSettings, {"quality": "best"}))
        assert name_networks(settings) == settings
    assert settings.model == "u2net"
    (record,) = caplog.records
    assert "cutray models pull isnet" in record.getMessage() and "AGPL-3.0" in record.getMessage()
    assert not list(cache.rglob("*.onnx"))


@pytest.mark.parametrize(
    ("values", "model"),
    [
        ({"quality": "balanced"}, "u2net-lean"),
        ({}, "u2net-lean"),
        ({"quality": "balanced", "model": "u2net"}, "u2net"),
        ({"compat": True}, "u2net"),
        ({"quality": "fast"}, "u2net-lean-288"),
        ({"quality": "fast", "model": "u2net"}, "u2net"),
        ({"quality": "fast", "compat": True}, "u2net"),
        ({"quality": "best", "model": "u2net"}, "u2net"),
        ({"quality": "best", "compat": True}, "u2net"),
    ],
    ids=[
        "balanced",
        "defaults",
        "balanced-named",
        "compat",
        "fast",
        "fast-named",
        "fast-compat",
        "best-named",
        "best-compat",
    ],
)
def test_all_else_runs_one_network(
    values: dict[str, Any], model: str, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other qualities, a model that somebody has named, and rembg's recipe run one network, without a word."""
    _put_second_network(cache)
    assert _named(**values) == model
    assert not caplog.records


def test_the_choice_travels(cache: Path) -> None:
    """Settings that were chosen for keep their networks where the weights are not, as in another machine's process."""
    _put_second_network(cache)
    chosen = name_networks(parse_settings(RemoverSettings, {"quality": "best"}))
    (cache / "models" / "isnet.onnx").unlink()
    assert name_networks(chosen).model == "u2net+isnet"
