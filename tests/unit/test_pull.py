"""`cutray models`: a damaged file is fetched again, a download goes on, and other tools' models are known."""

from __future__ import annotations

import fcntl
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from cutray.cli import cli
from cutray.errors import ChecksumError, UnknownModelError, WeightsUnavailableError
from cutray.models.elsewhere import list_elsewhere
from cutray.models.weights import ModelSpec, Source, list_models, pull, resolve
from tests.unit.test_weights import MD5, PAYLOAD, SHA256, _Server, _spec, home, server  # noqa: F401 (fixtures)

OTHER_TOOLS = [
    "u2net",
    "u2netp",
    "u2net_human_seg",
    "u2net_cloth_seg",
    "silueta",
    "isnet-general-use",
    "isnet-anime",
    "sam",
    "birefnet-general",
    "birefnet-general-fp16",
    "birefnet-general-lite",
    "birefnet-portrait",
    "birefnet-dis",
    "birefnet-hrsod",
    "birefnet-cod",
    "birefnet-massive",
    "bria-rmbg",
    "u2net_custom",
    "dis_custom",
    "ben_custom",
    "withoutbg",
    "atlascloud",
]


@pytest.fixture
def spec(server: _Server) -> ModelSpec:  # noqa: F811
    """Return a model that the server has."""
    return _spec(Source(url=server.url))


@pytest.fixture
def target(home: Path) -> Path:  # noqa: F811
    """Return where the model's file lies."""
    (home / "models").mkdir(parents=True)
    return home / "models" / "small.onnx"


@pytest.mark.parametrize("content", [b"", PAYLOAD[:-1], b"x" + PAYLOAD[1:], PAYLOAD + b"x"])
def test_damaged_file_is_fetched_again(content: bytes, spec: ModelSpec, target: Path) -> None:
    """Whatever is wrong with it, and without a word where nothing is."""
    target.write_bytes(content)
    with pytest.raises(ChecksumError, match="models pull small"):
        resolve("small", models=[spec])
    assert pull("small", models=[spec]).sha256 == SHA256
    assert target.read_bytes() == PAYLOAD
    assert [path.name for path in target.parent.iterdir()] == ["small.onnx"]


def test_whole_file_is_not_fetched(spec: ModelSpec, target: Path, server: _Server) -> None:  # noqa: F811
    """The server is not even asked."""
    target.write_bytes(PAYLOAD)
    assert pull("small", models=[spec]).path == target
    assert server.asked == []  # type: ignore[attr-defined]


def test_members_of_an_ensemble_are_fetched(spec: ModelSpec, target: Path) -> None:
    """Each by itself, wherever the joined names are given."""
    other = target.with_name("other.onnx")
    other.write_bytes(b"other")
    known = replace(spec, name="other", file="other.onnx", size_bytes=5, sha256=sha256(b"other").hexdigest(), md5="")
    assert [one.path for one in pull("small+other", models=[spec, known]).members] == [target, other]
    assert target.read_bytes() == PAYLOAD


def test_change_behind_the_remembered_hash_is_found(spec: ModelSpec, target: Path, home: Path) -> None:  # noqa: F811
    """Pull reads every byte, also where a remembered hash says that it need not."""
    target.write_bytes(PAYLOAD)
    resolve("small", models=[spec])
    note = next((home / "verified").iterdir())
    target.write_bytes(PAYLOAD[:-1] + b"x")
    status = target.stat()
    text = note.read_text()
    start = text.index("[")
    note.write_text(
        f"{text[:start]}[{status.st_size}, {status.st_mtime_ns}, {status.st_ctime_ns}]{text[text.index(']') + 1 :]}"
    )
    assert resolve("small", models=[spec]).sha256 == SHA256  # it believes the note
    assert pull("small", models=[spec]).sha256 == SHA256
    assert target.read_bytes() == PAYLOAD


def test_damaged_file_stays_until_there_is_a_whole_one(
    spec: ModelSpec, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, or from a source that has the wrong bytes, nothing gets worse."""
    target.write_bytes(b"damaged")
    monkeypatch.setenv("CUTRAY_OFFLINE", "1")
    with pytest.raises(WeightsUnavailableError, match="downloading is switched off"):
        pull("small", models=[spec])
    monkeypatch.delenv("CUTRAY_OFFLINE")
    with pytest.raises(ChecksumError):
        pull("small", models=[replace(spec, sha256="0" * 64)])
    assert target.read_bytes() == b"damaged"
    assert [path.name for path in target.parent.iterdir()] == ["small.onnx"]


def test_interrupted_download_goes_on_in_the_next_run(
    spec: ModelSpec,
    target: Path,
    server: _Server,  # noqa: F811
) -> None:
    """What was read before the connection broke for good is not read again."""
    server.cut, server.cuts = 200_000, 5
    with pytest.raises(WeightsUnavailableError, match=r"1\.0 MB are kept, the next try goes on there"):
        pull("small", models=[spec])
    assert not target.exists()
    server.asked.clear()  # type: ignore[attr-defined]
    assert pull("small", models=[spec]).sha256 == SHA256
    assert server.asked == ["bytes=1000000-"]  # type: ignore[attr-defined]
    assert [path.name for path in target.parent.iterdir()] == ["small.onnx"]


@pytest.mark.parametrize("left", [b"another file", PAYLOAD + b"more", b"y" * len(PAYLOAD)])
def test_left_over_of_another_file_is_dropped(left: bytes, spec: ModelSpec, target: Path) -> None:
    """Going on with it gives wrong bytes, so the download starts again."""
    target.with_name("small.onnx.partial").write_bytes(left)
    assert pull("small", models=[spec]).sha256 == SHA256
    assert target.read_bytes() == PAYLOAD


@pytest.mark.parametrize("left", [b"another file", PAYLOAD + b"more"])
def test_left_over_where_only_the_hash_is_known(
    left: bytes,
    server: _Server,  # noqa: F811
    target: Path,
) -> None:
    """Without a pinned size the server says that there is no such part."""
    target.with_name("small.onnx.partial").write_bytes(left)
    unsized = _spec(Source(url=server.url), size_bytes=0, sha256="", md5=MD5)
    assert pull("small", models=[unsized]).sha256 == SHA256


def test_left_over_that_another_process_writes_is_left_alone(spec: ModelSpec, target: Path) -> None:
    """Two downloads at once share nothing."""
    part = target.with_name("small.onnx.partial")
    with part.open("wb") as other:
        other.write(b"theirs")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        assert pull("small", models=[spec]).sha256 == SHA256
        assert part.read_bytes() == b"theirs"


def test_models_of_other_tools_have_a_record() -> None:
    """Each name is either a model here, or says why not and what to use instead."""
    here = {spec.name for spec in list_models()}
    elsewhere = {model.name: model for model in list_elsewhere()}
    assert not here & elsewhere.keys()
    for name in OTHER_TOOLS:
        assert name in here or name in elsewhere
    for model in elsewhere.values():
        with pytest.raises(UnknownModelError) as caught:
            resolve(model.name, offline=True)
        assert all(part in str(caught.value) for part in (model.reason, model.license, model.source, model.instead))


def test_commands_know_models_of_other_tools() -> None:
    """They are in the list, `show` prints the record, and `pull` refuses with it."""
    runner = CliRunner()
    assert "birefnet-general" in runner.invoke(cli, ["models", "list"]).output
    shown = runner.invoke(cli, ["models", "show", "bria-rmbg"]).output
    assert "CC BY-NC 4.0" in shown
    assert "about 1020 MB" in shown
    both = runner.invoke(cli, ["models", "show", "u2net+isnet"])
    assert both.exit_code == 0
    assert [line.split()[1] for line in both.output.splitlines() if line.startswith("name ")] == ["u2net", "isnet"]
    refused = runner.invoke(cli, ["models", "pull", "sam"])
    assert "points or boxes" in str(refused.exception)
