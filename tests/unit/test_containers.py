"""The Dockerfile and the compose file, checked without an engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "cluster" / "docker"
DOCKERFILE, COMPOSE = (FOLDER / name for name in ("Dockerfile", "compose.yaml"))
compose_spec = pytest.importorskip("compose_spec", reason="compose files are checked with compose-spec")


class Loader(yaml.SafeLoader):
    """Reads compose's own tag as what it does: nothing is left."""


Loader.add_constructor("!reset", lambda _loader, _node: None)


def services() -> dict[str, dict[str, Any]]:
    """Return the services, with what they share filled in."""
    found: dict[str, dict[str, Any]] = yaml.load(COMPOSE.read_text(), Loader)["services"]
    return found


def parse(text: str) -> None:
    """Check a compose file against the compose specification, with what services share filled in."""
    plan = yaml.load(text, Loader)
    for service in plan["services"].values():
        service.update({key: value for key, value in service.items() if value is not None})
        for key in [key for key, value in service.items() if value is None]:
            del service[key]
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(plan)).to_spec()


def lint(text: str) -> subprocess.CompletedProcess[str]:
    """Run the linter on the text of a Dockerfile."""
    program = Path(sys.executable).with_name("hadolint")
    if not program.is_file():
        pytest.skip("hadolint is not installed")
    return subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False)


def test_the_linter_finds_nothing() -> None:
    """Hadolint accepts the Dockerfile without a warning."""
    found = lint(DOCKERFILE.read_text())
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("WORKDIR /src", "WORKDR /src"), ("AS wheel", "AS"), (":3.11.13-slim-bookworm AS cpu", ":latest AS cpu")],
)
def test_the_linter_finds_a_typo(right: str, wrong: str) -> None:
    """A misspelt instruction, a broken one and an image without a version are refused."""
    assert lint(DOCKERFILE.read_text().replace(right, wrong, 1)).returncode != 0


def test_images_run_without_rights() -> None:
    """Each image ends as another user than root, and says how to tell that it is well."""
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)[2:]
    for stage in stages:
        assert re.findall(r"^USER (.*)$", stage, re.MULTILINE)[-1] == "10001:10001", stage[:40]
        assert "HEALTHCHECK" in stage or stage.startswith("cpu AS")


def test_every_package_of_an_image_is_locked() -> None:
    """Each package is installed in one version, with its hash, from a lock that has the tested versions."""
    tested = set((FOLDER.parents[1] / ".ci" / "constraints.txt").read_text().lower().replace("_", "-").splitlines())
    for name in ("cpu", "gpu", "mlflow"):
        text = (FOLDER / f"{name}.lock").read_text()
        pins = re.findall(r"^([\w.\[\]-]+==[\w.+!]+)(.*)$", text, re.MULTILINE)
        assert len(pins) > 30 and text.count("--hash=sha256:") >= len(pins)
        assert f"{name}.lock" in DOCKERFILE.read_text()
        if name == "cpu":
            assert {pin for pin, _ in pins if pin.startswith(("ray=", "numpy=", "openvino=", "pillow="))} <= tested
    assert "ray==2.60.0" in (FOLDER / "cpu.lock").read_text()


def test_the_compose_file_is_right() -> None:
    """The compose file follows the compose specification."""
    parse(COMPOSE.read_text())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("read_only:", "readonly:"), ("healthcheck:", "health_check:"), ("interval: 10s", "intervall: 10s")],
)
def test_a_typo_in_the_compose_file_is_found(right: str, wrong: str) -> None:
    """A misspelt key of a service, or inside one, is refused."""
    with pytest.raises(ValueError, match=wrong.partition(":")[0]):
        parse(COMPOSE.read_text().replace(right, wrong, 1))


def test_only_the_api_port_is_published() -> None:
    """One service publishes one port, and only that one has a way out."""
    assert {name: service["ports"] for name, service in services().items() if "ports" in service} == {
        "head": ["8000:8000"]
    }
    assert [name for name, service in services().items() if "edge" in (service.get("networks") or [])] == ["head"]


def test_services_have_no_rights() -> None:
    """Nothing in the compose file may write to its image or gain rights."""
    for name, service in services().items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_ray_finds_the_file_that_keeps_it_from_asking_the_network() -> None:
    """A home in memory hides the image's copy, so that a home of that kind comes with a copy of its own."""
    place = "/home/cutray/ray_bootstrap_config.yaml"
    assert place in DOCKERFILE.read_text()
    for name in ("head", "worker"):
        service = services()[name]
        assert any(one.startswith("/home/cutray:") for one in service["tmpfs"])
        (source,) = (one.split(":")[0] for one in service["volumes"] if one.split(":")[1] == place)
        assert yaml.safe_load((COMPOSE.parent / source).read_text()) == {}


def test_secrets_come_from_the_environment() -> None:
    """No secret has a value in the tree, and compose refuses to start without one."""
    wanted = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    example = dict(line.split("=", 1) for line in (FOLDER / ".env.example").read_text().splitlines() if "=" in line)
    assert wanted == set(example) and not any(example.values())
    for name, service in services().items():
        for key, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|TOKEN|SECRET|_KEY", key) or "${" in value, f"{name}: {key}"


def test_mlflow_finds_its_database_and_is_found() -> None:
    """The driver in the database's address is locked, and MLflow takes requests by the name that nodes ask it by."""
    ours = services()
    settings = ours["mlflow"]["environment"]
    driver = re.fullmatch(r"postgresql\+(\w+)://.*", settings["MLFLOW_BACKEND_STORE_URI"])
    assert driver and f"\n{driver[1]}-binary==" in (FOLDER / "mlflow.lock").read_text()
    asked = ours["worker"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert asked in settings["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    bucket = settings["MLFLOW_ARTIFACTS_DESTINATION"].removeprefix("s3://")
    assert f"mkdir -p /data/{bucket}" in ours["store"]["command"][0]
