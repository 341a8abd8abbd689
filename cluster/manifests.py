"""The manifests of KubeRay: the service, the cluster and the jobs, from one configuration of Serve and one of pods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cluster.pods import Manifest, Site, Size, Task, head, locked_down, submitter, workers
from serve_apps.config_file import proxy_variables

NAMESPACE = "cutray"
RAY_VERSION = "2.60.0"
SERVING = {
    "cpu": Size(cpus=8, memory_gib=32, fewest=1, most=6),
    "gpu": Size(cpus=4, memory_gib=16, gpus=1, fewest=2, most=8),
}
WORK = {
    "cpu": Size(cpus=8, memory_gib=32, most=4),
    "gpu": Size(cpus=8, memory_gib=32, gpus=1, most=4),
    "gpu-spot": Size(cpus=8, memory_gib=32, gpus=1, most=8, spot=True),
}
_HEAD = Size(cpus=2, memory_gib=8)
_RUNS = {"/runs": "cutray-runs"}  # one volume for data, runs and results, that all pods can write to
JOBS = {
    "batch": "cutray batch s3://photos/in s3://photos/out --address auto --gpus-per-actor 1 --max-failures 1%",
    "train": "cutray train --address auto --preset u2net --data /runs/data --save-dir /runs/train --name u2net",
    "tune": "cutray tune /opt/cutray/tune_configs/u2net.yaml --address auto --data /runs/data --save-dir /runs/tune",
}


def ray_service(site: Site, config: dict[str, Any], config_text: str) -> Manifest:
    """Return the RayService: the endpoint on a cluster of its own, renewed without a pause.

    Args:
        site: Images and places.
        config: The checked configuration of Serve.
        config_text: The same as YAML.
    """
    task = Task("serving", env=proxy_variables(config["applications"][0]["args"]), api=True)
    asked = [entry.get("ray_actor_options", {}) for entry in config["applications"][0]["deployments"]]
    gpus = any(options.get("num_gpus") for options in asked)
    # A group that nobody asks for would wait for machines for ever.
    spec = _cluster(site, task, {name: size for name, size in SERVING.items() if gpus or not size.gpus})
    return _object(
        "RayService",
        "cutray",
        {
            "upgradeStrategy": {"type": "NewCluster"},
            "rayClusterDeletionDelaySeconds": 120,
            "excludeHeadPodFromServeSvc": True,
            "serveConfigV2": config_text,
            "rayClusterConfig": spec | {"gcsFaultToleranceOptions": _lasting_memory()},
        },
    )


def alert_rules(groups: Manifest) -> Manifest:
    """Return the PrometheusRule: the alerts of plain Prometheus for its operator.

    Args:
        groups: ``observability/alerts.yml``.
    """
    return _object("PrometheusRule", "cutray", groups, api="monitoring.coreos.com/v1")


def ray_cluster(site: Site) -> Manifest:
    """Return a RayCluster for several people and jobs; all its workers come and go."""
    task = Task("work", secrets=("cutray-s3", "cutray-mlflow"), shared=_RUNS)
    spec = _cluster(site, task, WORK, torch=True)
    return _object("RayCluster", "cutray-work", spec | {"gcsFaultToleranceOptions": _lasting_memory()})


def ray_job(site: Site, name: str) -> Manifest:
    """Return a RayJob: a cluster for one job, which goes when the job is done."""
    task = Task(name, secrets=("cutray-s3", "cutray-mlflow"), shared={} if name == "batch" else _RUNS)
    # A batch spreads over the nodes that are there when it starts; a training and a sweep wait for more.
    groups = {
        group: size if size.spot else replace(size, fewest=size.most if name == "batch" else 1)
        for group, size in WORK.items()
        if size.gpus
    }
    return _object(
        "RayJob",
        f"cutray-{name}",
        {
            "entrypoint": JOBS[name],
            "submissionMode": "K8sJobMode",
            "submitterPodTemplate": submitter(site, task),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "activeDeadlineSeconds": 172800,
            "backoffLimit": 2,  # batch and training go on where they stopped
            "rayClusterSpec": _cluster(site, task, groups, torch=True),
        },
    )


def _cluster(site: Site, task: Task, groups: dict[str, Size], *, torch: bool = False) -> Manifest:
    """Return a cluster with a token, a head and groups that the autoscaler fills."""
    return {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token", "secretName": "cutray-auth"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": 300,
            "upscalingMode": "Default",
            "resources": {
                "requests": {"cpu": "500m", "memory": "1Gi"},
                "limits": {"cpu": "500m", "memory": "1Gi"},
            },
            "securityContext": locked_down(),
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
        },
        "headGroupSpec": head(site, task, _HEAD, torch=torch),
        "workerGroupSpecs": [workers(site, task, name, size) for name, size in groups.items()],
    }


def _lasting_memory() -> Manifest:
    """Return where the cluster's memory lives, so that workers outlive the head."""
    return {
        "redisAddress": "redis:6379",
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "cutray-redis", "key": "password"}}},
    }


def _object(kind: str, name: str, spec: Manifest, api: str = "ray.io/v1") -> Manifest:
    """Return an object of KubeRay, or of another operator."""
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "cutray"}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}
