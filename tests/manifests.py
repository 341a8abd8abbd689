"""Checks manifests as strictly as a cluster would, without one: each key, each type, and what must be there."""

from __future__ import annotations

import difflib
import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import yaml

SCHEMAS = Path(__file__).with_name("schemas")
_KUBERNETES = {
    "Namespace": "core_v1.Namespace",
    "Service": "core_v1.Service",
    "PersistentVolumeClaim": "core_v1.PersistentVolumeClaim",
    "StatefulSet": "apps_v1.StatefulSet",
    "NetworkPolicy": "networking_v1.NetworkPolicy",
    "Ingress": "networking_v1.Ingress",
    "PodDisruptionBudget": "policy_v1.PodDisruptionBudget",
}
_VERSIONS = {"core_v1": "v1", "apps_v1": "apps/v1", "networking_v1": "networking.k8s.io/v1", "policy_v1": "policy/v1"}
_QUANTITY = {"type": ["string", "integer"], "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}


def problems(manifest: dict[str, Any]) -> list[str]:
    """Return what a cluster would refuse in a manifest, each with its place and, for keys, the likely spelling."""
    kind = manifest.get("kind", "")
    if kind in _KUBERNETES:
        module = _KUBERNETES[kind].partition(".")[0]
        expected, root = _VERSIONS[module], _KUBERNETES[kind]
    else:
        expected, root = str(manifest.get("apiVersion")), kind
        if kind not in _own():
            close = difflib.get_close_matches(kind, [*_KUBERNETES, *_own()], 1)
            return [f"kind: unknown {kind!r}{_hint(close)}"]
    found = [] if manifest.get("apiVersion") == expected else [f"apiVersion: {manifest.get('apiVersion')!r}"]
    schema = {"$ref": f"#/$defs/{root}", "$defs": _definitions()}
    return found + sorted(_describe(jsonschema.Draft202012Validator(schema).iter_errors(manifest)))


def load(path: Path) -> list[dict[str, Any]]:
    """Return the manifests of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _describe(errors: Iterator[jsonschema.ValidationError]) -> Iterator[str]:
    """Say where each error is and, for an unknown key, what was probably meant."""
    for error in errors:
        place = ".".join(map(str, error.absolute_path))
        if error.validator != "additionalProperties":
            yield f"{place}: {error.message}"
            continue
        for key in sorted(set(error.instance) - set(error.schema["properties"])):
            yield f"{place}.{key}: unknown key{_hint(difflib.get_close_matches(key, error.schema['properties'], 1))}"


def _hint(close: list[str]) -> str:
    """Return the likely spelling as part of a sentence."""
    return f", did you mean {close[0]!r}?" if close else ""


@functools.cache
def _own() -> dict[str, dict[str, Any]]:
    """Return the field lists of custom resources by the name of the type."""
    return {
        name: fields for path in SCHEMAS.glob("*.yaml") for name, fields in yaml.safe_load(path.read_text()).items()
    }


@functools.cache
def _definitions() -> dict[str, Any]:
    """Return one strict JSON schema of all types: the listed ones and those of Kubernetes that they lead to."""
    wanted = set(_KUBERNETES.values())
    made: dict[str, Any] = {}
    for name, fields in _own().items():
        properties = {key.rstrip("!"): _schema(value, wanted) for key, value in fields.items()}
        if "kind" in properties:
            properties["kind"] = {"const": name}
        required = [key.rstrip("!") for key in fields if key.endswith("!")]
        made[name] = {"type": "object", "properties": properties, "required": required}
    for name in wanted:
        module, _, kind = name.partition(".")
        model = getattr(importlib.import_module(f"lightkube.models.{module}"), kind)
        made |= msgspec.json.schema(model)["$defs"]
        made[name] = {"$ref": f"#/$defs/{kind}"}
    for amounts in ("limits", "requests"):
        for holder in ("ResourceRequirements", "VolumeResourceRequirements"):
            made[holder]["properties"][amounts] = {"type": "object", "additionalProperties": _QUANTITY}
    made["EmptyDirVolumeSource"]["properties"]["sizeLimit"] = _QUANTITY
    strict: dict[str, Any] = _strict(made)
    return strict


def _schema(value: Any, wanted: set[str]) -> dict[str, Any]:
    """Turn one entry of a field list into a JSON schema; types of Kubernetes are noted in ``wanted``."""
    if isinstance(value, list):
        return {"type": "array", "items": _schema(value[0], wanted)}
    if isinstance(value, dict):
        return {"type": "object", "additionalProperties": _schema(next(iter(value)), wanted)}
    if value in ("string", "integer", "number", "boolean"):
        return {"type": value}
    if re.fullmatch(r"\w+_v\d\.\w+", value):
        wanted.add(value)
        return {"$ref": f"#/$defs/{value}"}
    if value in _own():
        return {"$ref": f"#/$defs/{value}"}
    return {"enum": value.split(" | ")}


def _strict(schema: Any) -> Any:
    """Refuse keys that are not listed, and null where a value may be left out."""
    if isinstance(schema, list):
        return [_strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    choices = [entry for entry in schema.get("anyOf", []) if entry != {"type": "null"}]
    if len(choices) == 1:
        return _strict(choices[0])
    made = {key: _strict(value) for key, value in schema.items() if key not in ("default", "description")}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made
