"""The manifests of Kubernetes, checked without a cluster; a typo anywhere must be found."""

from __future__ import annotations

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

pytest.importorskip("ray.serve", reason="the configuration of Serve is part of them")
pytest.importorskip("lightkube", reason="the types of Kubernetes come from lightkube")
from cluster.generate import ALERTS, FOLDER, SERVE, generate, render
from cluster.manifests import RAY_VERSION, SERVING
from cluster.pods import Site
from cutray.cli import cli
from cutray.console.run import run
from cutray.errors import ConfigError
from tests.manifests import load, problems

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
MANIFESTS = [
    pytest.param(m, id=f"{path.stem}-{m['kind']}-{m['metadata']['name']}") for path in FILES for m in load(path)
]


def pods(value: Any, place: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return all specifications of pods inside a manifest, by their place."""
    if isinstance(value, list):
        return [pod for index, entry in enumerate(value) for pod in pods(entry, f"{place}.{index}")]
    if not isinstance(value, dict):
        return []
    here = [(place, value)] if "containers" in value else []
    return here + [pod for key, entry in value.items() for pod in pods(entry, f"{place}.{key}")]


def first(name: str) -> dict[str, Any]:
    """Return the first manifest of a file."""
    return load(FOLDER / name)[0]


def inside(manifest: dict[str, Any], place: str) -> Any:
    """Return what is at a place in a manifest."""
    found: Any = manifest
    for step in place.split("."):
        found = found[int(step) if step.isdigit() else step]
    return found


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_cluster_would_take_every_manifest(manifest: dict[str, Any]) -> None:
    """No key is unknown, no type is wrong, and nothing that must be there is missing."""
    assert problems(manifest) == []


HEAD = "spec.headGroupSpec.template.spec.containers.0"
TYPOS = [
    ("rayservice.yaml", "spec.rayClusterConfig.workerGroupSpecs.0", "minReplicas", "minReplicaz"),
    ("rayservice.yaml", "spec", "upgradeStrategy", "upgradeStrateg"),
    ("rayservice.yaml", "spec.rayClusterConfig.authOptions", "secretName", "secret_name"),
    ("rayservice.yaml", "spec.rayClusterConfig.gcsFaultToleranceOptions", "redisPassword", "redisPasswort"),
    ("raycluster.yaml", "spec.autoscalerOptions", "idleTimeoutSeconds", "idleTimoutSeconds"),
    ("raycluster.yaml", HEAD, "readinessProbe", "readyProbe"),
    (
        "raycluster.yaml",
        "spec.headGroupSpec.template.spec.containers.0.securityContext",
        "readOnlyRootFilesystem",
        "readOnlyRootFileSystem",
    ),
    ("rayjob-train.yaml", "spec", "shutdownAfterJobFinishes", "shutdownAfterJobFinished"),
    ("rayjob-tune.yaml", "spec.submitterPodTemplate.spec", "restartPolicy", "restartPolice"),
    ("rayjob-batch.yaml", "spec.rayClusterSpec.workerGroupSpecs.1.template.spec", "nodeSelector", "nodeSelektor"),
    ("network.yaml", "spec", "podSelector", "podselector"),
    ("redis.yaml", "spec.ports.0", "targetPort", "target"),
    ("namespace.yaml", "metadata", "labels", "label"),
    ("ingress.yaml", "spec.rules.0.http.paths.0", "pathType", "pathtype"),
    ("runs.yaml", "spec", "accessModes", "accessMode"),
    ("disruptions.yaml", "spec", "maxUnavailable", "maxUnavailabel"),
    ("monitor.yaml", "spec.podMetricsEndpoints.0", "interval", "intervall"),
]


@pytest.mark.parametrize(("name", "place", "right", "wrong"), TYPOS, ids=[f"{t[0]}-{t[3]}" for t in TYPOS])
def test_a_typo_is_found(name: str, place: str, right: str, wrong: str) -> None:
    """A misspelt key is refused with its place and, where it is close, the right spelling."""
    manifest = copy.deepcopy(first(name))
    where = inside(manifest, place)
    where[wrong] = where.pop(right)

    found = problems(manifest)

    assert any(line.startswith(f"{place}.{wrong}: unknown key") for line in found), found
    assert all("did you mean" not in line or repr(right) in line for line in found if wrong in line)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("spec.workerGroupSpecs.0", "maxReplicas", "five"),
        ("spec.authOptions", "mode", "tokens"),
        ("spec.headGroupSpec.rayStartParams", "num-cpus", 0),
        (f"{HEAD}.resources.limits", "memory", "8Gib"),
        (f"{HEAD}.livenessProbe", "periodSeconds", "5s"),
    ],
)
def test_a_wrong_value_is_found(place: str, key: str, value: Any) -> None:
    """A value of the wrong type, unit or spelling is refused, with its place."""
    manifest = copy.deepcopy(first("raycluster.yaml"))
    inside(manifest, place)[key] = value

    assert [line.partition(": ")[0] for line in problems(manifest)] == [f"{place}.{key}"]


def test_a_misspelt_kind_is_found() -> None:
    """A kind that nobody knows is refused, with the likely one."""
    assert "RayService" in problems({**first("rayservice.yaml"), "kind": "RayServise"})[0]


def test_the_committed_files_are_up_to_date() -> None:
    """`python -m cluster.generate --check` agrees with what is committed."""
    assert run(generate, ["--check"]) == 0


def test_stale_files_fail_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed file, or a changed configuration of Serve, makes the check exit with 1 and name the file."""
    assert run(generate, ["--output", str(tmp_path)]) == 0
    assert run(generate, ["--output", str(tmp_path), "--check"]) == 0
    other = tmp_path / "other.yaml"
    other.write_text(SERVE.read_text().replace("min_replicas: 4", "min_replicas: 5"))

    assert run(generate, ["--output", str(tmp_path), "--check", "--serve", str(other)]) == 1
    assert "rayservice.yaml is stale" in capsys.readouterr().err
    (tmp_path / "raycluster.yaml").write_text("changed")
    assert run(generate, ["--output", str(tmp_path), "--check"]) == 1


def test_a_typo_in_the_configuration_of_serve_is_refused(tmp_path: Path) -> None:
    """What Serve itself would overlook does not become part of a manifest."""
    other = tmp_path / "other.yaml"
    other.write_text(SERVE.read_text().replace("max_ongoing_requests", "max_ongoing_request"))

    with pytest.raises(ConfigError, match="max_ongoing_request"):
        render(Site(), other)
    assert run(generate, ["--serve", str(other), "--output", str(tmp_path)]) == 2


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_every_pod_is_locked_down(manifest: dict[str, Any]) -> None:
    """No container is root, can become root, writes to its image, or has no bounds."""
    for place, pod in pods(manifest):
        assert pod["securityContext"]["runAsNonRoot"] is True, place
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, place
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] and rights["runAsNonRoot"], place
            assert rights["allowPrivilegeEscalation"] is False, place
            assert rights["capabilities"] == {"drop": ["ALL"]}, place
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}, place
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, place
            assert not container["image"].endswith(":latest") and ":" in container["image"], place
            if container["name"] != "submitter":
                assert {"livenessProbe", "readinessProbe"} <= set(container), place


def test_every_ray_cluster_wants_a_token() -> None:
    """No cluster of Ray starts without a token from a Secret."""
    specs = [first(f"rayjob-{name}.yaml")["spec"]["rayClusterSpec"] for name in ("batch", "train", "tune")]
    specs += [first("raycluster.yaml")["spec"], first("rayservice.yaml")["spec"]["rayClusterConfig"]]
    for spec in specs:
        assert spec["authOptions"] == {"mode": "token", "secretName": "cutray-auth"}
        assert spec["rayVersion"] == RAY_VERSION
    assert f"ray=={RAY_VERSION}" in (ROOT / ".ci" / "constraints.txt").read_text().splitlines()


def test_options_of_ray_start_exist() -> None:
    """Each start parameter is an option of this version's `ray start`."""
    from ray.scripts.scripts import start

    options = {option.removeprefix("--") for parameter in start.params for option in parameter.opts}
    for path in FOLDER.glob("ray*.yaml"):
        text = yaml.safe_load(path.read_text())["spec"]
        spec = text.get("rayClusterConfig") or text.get("rayClusterSpec") or text
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            assert set(group["rayStartParams"]) <= options, path.name


@pytest.mark.parametrize("name", ["batch", "train", "tune"])
def test_the_command_of_a_job_exists(name: str) -> None:
    """Each entry point is a command of this version, with options and values that it knows."""
    program, command, *arguments = shlex.split(first(f"rayjob-{name}.yaml")["spec"]["entrypoint"])
    assert program == "cutray"
    context = click.Context(cli)
    found = cli.get_command(context, command)
    if found is None:
        pytest.skip(f"`cutray {command}` is not there yet")
    found.make_context(command, list(arguments))
    assert "--address" in arguments


def test_the_endpoint_fits_into_its_workers() -> None:
    """Each replica fits into one pod, the fewest of all into the fewest pods, the most into the most."""
    plan = yaml.safe_load(first("rayservice.yaml")["spec"]["serveConfigV2"])
    for bound, pods_of in (("min_replicas", "fewest"), ("max_replicas", "most")):
        cpus = sum(size.cpus * getattr(size, pods_of) for size in SERVING.values())
        gpus = sum(size.gpus * getattr(size, pods_of) for size in SERVING.values())
        for deployment in plan["applications"][0]["deployments"]:
            options, count = deployment["ray_actor_options"], deployment["autoscaling_config"][bound]
            assert any(
                options["num_cpus"] <= size.cpus and options.get("num_gpus", 0) <= size.gpus
                for size in SERVING.values()
            )
            cpus -= options["num_cpus"] * count
            gpus -= options.get("num_gpus", 0) * count
        assert cpus >= 0 and gpus >= 0, bound


def test_without_gpus_no_pod_waits_for_one(tmp_path: Path) -> None:
    """A configuration for processors alone gets no group of GPU pods, and its replicas' most fit into the others."""
    plan = yaml.safe_load(SERVE.read_text())
    plan["applications"][0]["args"]["engine"] = {"device": "cpu"}
    for deployment in plan["applications"][0]["deployments"]:
        deployment["ray_actor_options"].pop("num_gpus", None)
    own = tmp_path / "cpu.prod.yaml"
    own.write_text(yaml.safe_dump(plan))
    service = yaml.safe_load(render(Site(), own)["rayservice.yaml"])
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert [group["groupName"] for group in groups] == ["cpu"]
    most = sum(
        deployment["ray_actor_options"]["num_cpus"] * deployment["autoscaling_config"]["max_replicas"]
        for deployment in plan["applications"][0]["deployments"]
    )
    assert most <= SERVING["cpu"].cpus * groups[0]["maxReplicas"]


def test_a_registry_with_a_password_is_named_in_every_pod() -> None:
    """The secret for pulling images reaches the head, the workers and the pods that hand in jobs."""
    for secret, wanted in (("registry", [{"name": "registry"}]), ("", None)):
        files = render(Site(pull_secret=secret), SERVE)
        found = [pod for text in files.values() for _, pod in pods(yaml.safe_load(text))]
        assert len(found) > 10
        assert all(pod.get("imagePullSecrets") == wanted for pod in found)


def test_the_operator_gets_the_same_alerts() -> None:
    """The rules for Prometheus' operator are those of the plain file, and their jobs are those of the monitor."""
    rules = first("alerts.yaml")["spec"]
    assert rules == yaml.safe_load(ALERTS.read_text())
    expressions = " ".join(rule["expr"] for group in rules["groups"] for rule in group["rules"])
    jobs = set(re.findall(r'job="(\w+)"', expressions))
    endpoints = first("monitor.yaml")["spec"]["podMetricsEndpoints"]
    assert jobs == {entry["replacement"] for endpoint in endpoints for entry in endpoint["relabelings"]} == {"ray"}


def test_all_files_of_the_kustomization_exist() -> None:
    """`kubectl apply -k` finds every file that it names, and no job among them."""
    named = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert all((FOLDER / name).is_file() for name in named)
    assert not [name for name in named if name.startswith("rayjob")]


def test_the_page_creates_the_secrets_that_are_asked_for() -> None:
    """Secrets in docs/guides/operations.md have the names and keys that the RayService and Redis cannot do without."""
    page = (ROOT / "docs" / "guides" / "operations.md").read_text()
    made = set(re.findall(r"create secret generic (\S+) --from-literal=(\w+)=", page))
    spec = first("rayservice.yaml")["spec"]["rayClusterConfig"]
    password = spec["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert made == {(spec["authOptions"]["secretName"], "auth_token"), (password["name"], password["key"])}
    assert f"{password['name']}, key: {password['key']}" in (FOLDER / "redis.yaml").read_text()
