"""How a list of models in the YAML becomes deployments, and how their names are read."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
pytest.importorskip("httpx")

from cutray.errors import ConfigError
from serve_apps.config_file import CONFIG, load_config
from serve_apps.remover.errors import ApiError
from serve_apps.remover.model_names import match_name, public_name
from serve_apps.remover.rembg_request import note_model
from serve_apps.remover.schemas import AppArgs, ModelInfo
from serve_apps.remover.service import Service
from tests.unit.test_serve_api import call


def load(tmp_path: Path, models: list[str], engine: dict[str, Any] | None = None, **entries: Any) -> dict[str, Any]:
    """Return what becomes of the local YAML with these models and further deployments."""
    config = yaml.safe_load(CONFIG.read_text())
    (application,) = config["applications"]
    application["args"]["models"] = models
    network = application["deployments"][-1]["user_config"]
    network.pop("model")
    network |= entries.pop("default", {})
    application["deployments"] += [{"name": name, **keys} for name, keys in entries.items()]
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    made = load_config(path, host=None, port=None, engine=engine or {})
    application = made["applications"][0]
    return {
        "models": application["args"]["models"],
        **{entry["name"]: entry for entry in application["deployments"] if entry["name"].startswith("Segmenter")},
    }


def test_each_model_has_a_deployment(tmp_path: Path) -> None:
    """The default one's is `Segmenter`; others take over its replicas and queues, unless they have an entry."""
    own = tmp_path / "mine.onnx"
    own.touch()
    entry = {"num_replicas": 1, "user_config": {"max_batch_size": 4}}
    made = load(tmp_path, ["u2netp", "u2net+mine.onnx", "mine.onnx"], **{"Segmenter-mine": entry})
    assert made["models"] == ["u2netp", "u2net+mine", "mine"]
    assert made["Segmenter"]["user_config"]["model"] == "u2netp"
    vote = made["Segmenter-u2net+mine"]
    assert vote["user_config"] == {"model": f"u2net+{own}", "max_batch_size": 1, "batch_wait_s": 0}
    assert vote["max_ongoing_requests"] == made["Segmenter"]["max_ongoing_requests"]
    assert made["Segmenter-mine"] == {
        "name": "Segmenter-mine",
        "num_replicas": 1,
        "user_config": {"model": str(own), "max_batch_size": 4},
    }


def test_a_name_stays_when_its_address_changes(tmp_path: Path) -> None:
    """A list of names with addresses in `user_config`, as on a cluster, is left as it is: swaps stay in place."""
    made = load(
        tmp_path,
        ["first", "second"],
        default={"model": "first.onnx"},
        **{"Segmenter-second": {"user_config": {"model": "/models/other.onnx"}}},
    )
    assert made["models"] == ["first", "second"]
    assert made["Segmenter"]["user_config"]["model"] == "first.onnx"
    assert made["Segmenter-second"]["user_config"]["model"] == "/models/other.onnx"


@pytest.mark.parametrize(
    ("models", "more", "told"),
    [
        (["u2net", "u2net"], {}, "twice"),
        (["u2net", "a/u2net.onnx"], {}, "twice"),
        (["u2net"], {"Segmenter-u2netp": {}}, "no model"),
        (["u2net", "u2netp"], {"engine": {"model": "u2netp"}}, "default model"),
        (["u2net", "u2netp"], {"default": {"model": "u2netp"}}, "default model"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, models: list[str], more: dict[str, Any], told: str) -> None:
    """Two models of one name, a deployment without a model, and two defaults are errors before anything starts."""
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, models, **more)


def test_names_are_what_stays_of_an_address() -> None:
    """Neither a path nor a version nor an alias is part of a name."""
    assert public_name("models:/shoes@champion") == public_name("models:/shoes/3") == "shoes"
    assert public_name("/data/mine.onnx+u2net") == "mine+u2net"
    assert match_name("u2net u2netp", ["u2net+u2netp"]) == "u2net+u2netp"
    assert match_name("U2NET", ["u2net"]) is None


class Segmenter:
    """Stands where the handle of a Segmenter would be: says what it runs."""

    def __init__(self, name: str) -> None:
        """Keep the network's name."""
        self._info = ModelInfo("ready", name, input_size_px=320, scale="max", mean=(0.5,) * 3, std=(0.5,) * 3)

    @property
    def describe(self) -> Segmenter:
        """Return the method as a handle does."""
        return self

    async def remote(self) -> ModelInfo:
        """Answer."""
        return self._info


@pytest.mark.parametrize(
    ("served", "names"),
    [
        ("shoes/3", ["shoes", "shoes/3"]),
        ("shoes/3+u2net", ["shoes+u2net", "shoes u2net", "shoes/3+u2net"]),
        ("u2net", ["u2net"]),
    ],
)
def test_a_model_that_is_served_alone_goes_by_its_public_name(served: str, names: list[str]) -> None:
    """A model of the registry is called by its bare name, with or without a list; a new version changes nothing."""
    service = Service(None, {"": Segmenter(served)}, AppArgs())
    for name in names:
        assert asyncio.run(service.models.choose(name)) == ""
    with pytest.raises(ApiError, match=re.escape(f"allowed is {', '.join(dict.fromkeys((names[0], served)))}.")):
        asyncio.run(service.models.choose("boots"))
    described = call(service, "GET", f"/v2/models/{names[0]}")
    assert (described.status_code, described.json()["name"]) == (200, names[0])
    assert call(service, "GET", f"/v2/models/{names[0]}/ready").json() == {"name": names[0], "ready": True}
    assert note_model({"model": names[0]}, served) == []
    assert len(note_model({"model": "boots"}, served)) == 1
