"""The pods that Ray runs in: one template, and what the sizes, places and tasks of pods change in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

Manifest = dict[str, Any]

USER = 10001  # the user of the image, see docker/Dockerfile
RAY_PORTS = {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080, "as-metrics": 44217, "dash-metrics": 44227}
API_PORT = 8000
_AGENT_PORT, _ALIVE = 52365, "/api/local_raylet_healthz"  # Ray's agent on each node; answers this without a token


@dataclass(frozen=True, slots=True)
class Site:
    """What differs from one Kubernetes cluster to another.

    Attributes:
        image: Image of nodes without a GPU.
        gpu_image: Image of nodes with one, and of training.
        spot: Label and taint, KEY=VALUE, of machines that may be taken away.
        pull_secret: Secret with the password of the registry; empty if it asks for none.
    """

    image: str = "registry.example.com/cutray:cpu"
    gpu_image: str = "registry.example.com/cutray:gpu"
    spot: str = "karpenter.sh/capacity-type=spot"
    pull_secret: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """One kind of machine, and how many of them.

    Attributes:
        cpus: Processors of a pod.
        memory_gib: Memory of a pod, shared memory included.
        gpus: GPUs of a pod.
        fewest: Pods that are always there.
        most: Pods that the autoscaler may ask for.
        spot: On machines that may be taken away.
    """

    cpus: int
    memory_gib: int
    gpus: int = 0
    fewest: int = 0
    most: int = 0
    spot: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """What the pods of one cluster are for.

    Attributes:
        name: Value of the label ``app.kubernetes.io/component``.
        env: Environment beyond that of the image.
        secrets: Secrets that become environment; they may be missing.
        shared: Claims of volumes by the folder where they are mounted.
        api: Whether replicas listen on the API port.
    """

    name: str
    env: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    shared: dict[str, str] = field(default_factory=dict)
    api: bool = False


def head(site: Site, task: Task, size: Size, *, torch: bool = False) -> Manifest:
    """Return the head group. It computes nothing, so that a busy replica never slows the cluster's memory down."""
    pod = _pod(site, task, size, "ray-head", torch=torch)
    container = pod["spec"]["containers"][0]
    container["ports"] = [{"name": name, "containerPort": port} for name, port in RAY_PORTS.items()]
    container["readinessProbe"] = _probe(RAY_PORTS["dashboard"], "/api/gcs_healthz", period_s=5, failures=6)
    return {
        "serviceType": "ClusterIP",
        # KubeRay's operator speaks to the dashboard; the token and the network policy keep everybody else out.
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104
        "template": pod,
    }


def workers(site: Site, task: Task, name: str, size: Size) -> Manifest:
    """Return a group of workers that the autoscaler makes larger and smaller."""
    pod = _pod(site, task, size, "ray-worker", torch=bool(size.gpus))
    container = pod["spec"]["containers"][0]
    container["ports"] = [{"name": "metrics", "containerPort": RAY_PORTS["metrics"]}]
    if task.api:
        container["ports"].append({"name": "serve", "containerPort": API_PORT})
        # A pod without replicas has no proxy: it is not ready, and gets no requests. That is meant.
        container["readinessProbe"] = _probe(API_PORT, "/-/healthz", period_s=3, failures=2)
    else:
        container["readinessProbe"] = _probe(_AGENT_PORT, _ALIVE, period_s=5, failures=6)
    pod["spec"] |= {
        "automountServiceAccountToken": False,  # only the head asks Kubernetes for anything
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"ray.io/group": name, **_labels(task)}},
            }
        ],
    }
    return {
        "groupName": name,
        "replicas": size.fewest,
        "minReplicas": size.fewest,
        "maxReplicas": size.most,
        "rayStartParams": {},
        "template": pod,
    }


def submitter(site: Site, task: Task) -> Manifest:
    """Return the pod that hands a job to its cluster."""
    pod = _pod(site, replace(task, name="submitter", shared={}), Size(cpus=1, memory_gib=1), "submitter", torch=False)
    del pod["spec"]["containers"][0]["livenessProbe"]  # it runs no Ray
    pod["spec"] |= {"restartPolicy": "Never", "automountServiceAccountToken": False}
    return pod


def locked_down() -> Manifest:
    """Return the rights of every container: none."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _pod(site: Site, task: Task, size: Size, container: str, *, torch: bool) -> Manifest:
    """Return the template that all pods share."""
    amounts: Manifest = {"cpu": str(size.cpus), "memory": f"{size.memory_gib}Gi", "ephemeral-storage": "20Gi"}
    if size.gpus:
        amounts["nvidia.com/gpu"] = str(size.gpus)
    spec: Manifest = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 90,
        "containers": [
            {
                "name": container,
                "image": site.gpu_image if torch else site.image,
                "resources": {"requests": dict(amounts), "limits": dict(amounts)},
                "securityContext": locked_down(),
                "livenessProbe": _probe(_AGENT_PORT, _ALIVE, period_s=10, failures=12, delay_s=30),
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
                    {"name": "home", "mountPath": "/home/cutray"},
                    *({"name": name, "mountPath": folder} for folder, name in task.shared.items()),
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "16Gi"}},  # Ray's sessions, logs and spilled objects
            {"name": "home", "emptyDir": {"sizeLimit": "1Gi"}},
            *({"name": name, "persistentVolumeClaim": {"claimName": name}} for name in task.shared.values()),
        ],
    }
    if site.pull_secret:
        spec["imagePullSecrets"] = [{"name": site.pull_secret}]
    ray: Manifest = spec["containers"][0]
    if task.env:
        ray["env"] = [{"name": name, "value": value} for name, value in task.env.items()]
    if task.secrets:
        ray["envFrom"] = [{"secretRef": {"name": name, "optional": True}} for name in task.secrets]
    if task.shared:
        ray["workingDir"] = next(iter(task.shared))  # what a job writes beside itself outlives its pod
    places = []
    if size.spot:
        key, _, value = site.spot.partition("=")
        spec["nodeSelector"] = {key: value}
        places.append({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"})
    if size.gpus:
        places.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if places:
        spec["tolerations"] = places
    return {"metadata": {"labels": _labels(task)}, "spec": spec}


def _labels(task: Task) -> dict[str, str]:
    """Return the labels that network policies and monitors select by."""
    return {"app.kubernetes.io/part-of": "cutray", "app.kubernetes.io/component": task.name}


def _probe(port: int, path: str, *, period_s: int, failures: int, delay_s: int = 10) -> Manifest:
    """Return a check over HTTP; no probe needs a program inside the image."""
    return {
        "httpGet": {"port": port, "path": path},
        "initialDelaySeconds": delay_s,
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
