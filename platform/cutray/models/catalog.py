"""The table of known models, and what is assumed about a file that is not in it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from cutray.config import Architecture
from cutray.errors import ConfigError
from cutray.privacy import import_openvino

Scale = Literal["max", "255"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# The small network's files weigh about 5 MB and the full one's at least 44 MB (eight bits per weight).
_SMALL_NETWORK_MAX_BYTES = 20_000_000


class PreprocessSpec(NamedTuple):
    """How a photo is prepared for a network, as ``ModelSpec`` explains it."""

    input_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: Scale


# The way of the authors of each architecture.
_U2NET = PreprocessSpec(320, _IMAGENET_MEAN, _IMAGENET_STD, "max")
_PUBLISHED = {
    "u2net": _U2NET,
    "u2netp": _U2NET,
    "isnet": PreprocessSpec(1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), "255"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """One place a file comes from: a member of a wheel or of an npm package, or an address."""

    wheel: str = ""
    npm: str = ""
    member: str = ""
    url: str = ""

    def __str__(self) -> str:
        """Name the place as a reader would look for it."""
        if self.npm:
            return f"{self.member} in the npm package {self.npm}"
        return f"{self.member} in the wheel {self.wheel}" if self.wheel else self.url


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model's file must be and how the network's input is prepared.

    ``size_bytes`` 0 and an empty ``sha256`` mean "not pinned"; ``md5`` is checked where only that is known.
    ``mean`` and ``std`` apply after scaling, per channel in RGB order. ``scale`` "max" divides by the picture's
    own maximum, "255" by 255. ``cpu_precisions`` are the number formats besides fp32 in which the model keeps its
    quality on a processor, fastest first. ``packaged`` files are part of the package and have no other source.
    ``trained_on`` names the collections that the weights have seen: scores on these say nothing.
    """

    name: str
    architecture: Architecture | Literal["ensemble"]
    file: str
    size_bytes: int
    sha256: str
    license: str
    origin: str
    input_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: Scale
    description: str
    sources: tuple[Source, ...] = ()
    md5: str = ""
    cpu_precisions: tuple[str, ...] = ("bf16",)
    packaged: bool = False
    trained_on: tuple[str, ...] = ()

    @property
    def is_pinned(self) -> bool:
        """Whether there is a hash to check the file against."""
        return bool(self.sha256 or self.md5)

    @property
    def preprocess(self) -> PreprocessSpec:
        """How a photo is prepared for the network."""
        return PreprocessSpec(self.input_size_px, self.mean, self.std, self.scale)


@cache
def list_models() -> tuple[ModelSpec, ...]:
    """Return every model that has a name, in the order of ``weights.toml``."""
    text = resources.files(__package__).joinpath("weights.toml").read_text(encoding="utf-8")
    return tuple(_from_table(name, table) for name, table in tomllib.loads(text).items())


def usual_preprocess(sha256: str, architecture: str) -> PreprocessSpec:
    """Return how a photo is prepared for a network where nobody says otherwise.

    Args:
        sha256: Hash of its file. Several models of the table may share one; the first of them counts.
        architecture: For files that are not in the table: its authors' way.
    """
    first = next((spec for spec in list_models() if spec.sha256 == sha256), None)
    return first.preprocess if first else _PUBLISHED[architecture]


def describe_file(path: Path, known: ModelSpec | None = None) -> ModelSpec:
    """Describe a file that the user names by its path.

    A TOML file of the same name beside it (``mine.onnx`` and ``mine.toml``), with any keys of ``weights.toml``,
    has the last word. What it leaves out is that of the known model with the same bytes. Otherwise it follows from the
    file: a name with "isnet" means IS-Net; otherwise the size of the file tells U²-Net and U²-Net-p apart, and the
    official preparation is assumed. An ONNX file that fixes the side of its input is run at that side.

    Args:
        path: The file.
        known: The model of the table that has the same bytes, if there is one.

    Raises:
        ConfigError: The file beside it cannot be read, or has unknown keys or values of a wrong kind.
    """
    beside = path.with_suffix(".toml")
    overrides: dict[str, Any] = {}
    try:
        if beside.is_file():
            overrides = _parse_table(tomllib.loads(beside.read_text(encoding="utf-8")))
        if known is not None:
            return replace(known, **{"name": path.stem, **overrides}) if overrides else known
        spec = replace(_infer(path), **overrides)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            got=f"{beside} cannot be used: {error}",
            allowed="the keys and kinds of values of weights.toml",
            fix="correct or remove that file",
        ) from error
    side = None if "input_size_px" in overrides else _read_fixed_side(path)
    return replace(spec, input_size_px=side or spec.input_size_px)


def _infer(path: Path) -> ModelSpec:
    """Tell from a file's name and size which architecture it is, and prepare its input as the authors of that do."""
    small = path.stat().st_size < _SMALL_NETWORK_MAX_BYTES
    architecture: Architecture = "isnet" if "isnet" in path.stem.lower() else "u2netp" if small else "u2net"
    return ModelSpec(
        name=path.stem,
        architecture=architecture,
        file=path.name,
        size_bytes=0,
        sha256="",
        license="unknown",
        origin=str(path),
        description="own file",
        **_PUBLISHED[architecture]._asdict(),
    )


def _read_fixed_side(path: Path) -> int | None:
    """Return the side of the square pictures that an ONNX file is made for; None if it takes any, or is none."""
    if path.suffix.lower() != ".onnx":
        return None
    try:
        sides = list(import_openvino().Core().read_model(path).input(0).partial_shape)[2:]
        lengths = {side.get_length() for side in sides if side.is_static}
    except (ImportError, IndexError, RuntimeError):  # whoever runs the file says what is wrong with it
        return None
    return lengths.pop() if len(lengths) == 1 else None


def _from_table(name: str, table: Mapping[str, Any]) -> ModelSpec:
    """Build one entry of the packaged table."""
    return ModelSpec(name=name, **_parse_table(table))


def _parse_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the values of a TOML table into those of a ``ModelSpec``; a wrong one is a ``ValueError``."""
    values = dict(table)
    unknown = set(values) - {field.name for field in fields(ModelSpec)}
    if unknown:
        raise ValueError(f"unknown keys {', '.join(sorted(unknown))}")
    for key in {"mean", "std"} & set(values):
        values[key] = tuple(float(value) for value in values[key])
        if len(values[key]) != 3 or (key == "std" and min(values[key]) <= 0):
            raise ValueError(f"{key} = {table[key]!r}, three numbers needed, std above 0")
    if "trained_on" in values:
        values["trained_on"] = tuple(map(str, values["trained_on"]))
    if "cpu_precisions" in values:
        values["cpu_precisions"] = tuple(values["cpu_precisions"])
        if unfit := set(values["cpu_precisions"]) - {"int8", "bf16"}:
            raise ValueError(f"cpu_precisions = {table['cpu_precisions']!r}, not {', '.join(map(repr, sorted(unfit)))}")
    choices = {"scale": get_args(Scale), "architecture": get_args(Architecture)}
    for key in choices.keys() & values.keys():
        if values[key] not in choices[key]:
            raise ValueError(f"{key} = {values[key]!r}, allowed are {', '.join(choices[key])}")
    size = values.get("input_size_px", 320)
    if not isinstance(size, int) or not 32 <= size <= 4096:
        raise ValueError(f"input_size_px = {size!r}, allowed are 32 to 4096")
    values["sources"] = tuple(Source(**source) for source in values.get("sources", ()))
    return values
