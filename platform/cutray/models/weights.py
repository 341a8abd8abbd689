"""Find, fetch and check the weights of a model."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cutray.errors import ChecksumError, UnknownModelError, WeightsUnavailableError
from cutray.folders import cache_dir, data_dir, expand_user
from cutray.models import hashing, registry
from cutray.models.catalog import ModelSpec, Source, describe_file, list_models, usual_preprocess
from cutray.models.elsewhere import unknown_model
from cutray.models.transfer import Progress

__all__ = ["ModelSpec", "Source", "Weights", "cache_dir", "list_models", "locate", "resolve", "verify"]

# Joins the members of an ensemble: u2net+isnet.
JOIN = "+"
SUFFIXES = (".onnx", ".pth", ".safetensors")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Weights:
    """A file that was found and checked, or several that answer together.

    Attributes:
        spec: What it is, and how its input is prepared.
        path: The file. Of an ensemble there is none; the path is then the ensemble's name.
        sha256: Hash of the file; of an ensemble, of the members' identities.
        members: The networks of an ensemble; empty for a single one.
    """

    spec: ModelSpec
    path: Path
    sha256: str
    members: tuple[Weights, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(one.path.stat().st_size for one in self.members or (self,))

    @property
    def identity(self) -> str:
        """Hash of all that makes the network's answers: 64 hexadecimal digits.

        That is ``sha256``, unless the input is prepared in another way than usual: the same file then answers
        otherwise, so it counts as another network.
        """
        if self.members or self.spec.preprocess == usual_preprocess(self.sha256, self.spec.architecture):
            return self.sha256
        return hashlib.sha256(json.dumps([self.sha256, self.spec.preprocess]).encode()).hexdigest()


def resolve(
    model: str,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    models: Sequence[ModelSpec] | None = None,
) -> Weights:
    """Return checked weights for a model's name or a file's path, downloading them if need be.

    A name is looked for in the cache, in the folders of rembg (a file with other bytes there is passed over),
    and then in the model's sources.

    Args:
        model: A name of ``list_models``, the path of an .onnx, .pth or .safetensors file, or an address in an MLflow
            registry such as ``models:/shoes@champion``; or several of them joined by ``+``, an ensemble.
        offline: Do not download; ``CUTRAY_OFFLINE=1`` in the environment does the same.
        progress: Called with the file's name, the bytes so far, and all bytes or None.
        models: Known models; the packaged table by default.

    Raises:
        UnknownModelError: Neither a known name nor a usable file.
        WeightsUnavailableError: Not on this machine, and downloading is off or failed.
        ChecksumError: The file in the cache, or every download, has other bytes than the pinned ones.
        ConfigError: The description beside an own file is wrong.
    """
    known = {spec.name: spec for spec in (list_models() if models is None else models)}
    if JOIN in model and model not in known and not os.path.isfile(os.path.expanduser(model)):
        names = model.split(JOIN)
        return _ensemble([resolve(name, offline=offline, progress=progress, models=models) for name in names])
    if model.startswith(registry.SCHEME):
        return _registered(model, known)
    spec = known.get(model)
    if spec is None:
        return _own_file(model, known)
    hash_cache = cache_dir() / "verified"
    if path := locate(spec):
        return Weights(spec, path, _check(spec, path, hash_cache).sha256)
    if offline or _offline_by_environment():
        raise _unavailable(spec, "downloading is switched off")
    _fetch(spec, progress)
    return Weights(spec, _target(spec), _check(spec, _target(spec), hash_cache).sha256)


def pull(model: str, *, progress: Progress | None = None, models: Sequence[ModelSpec] | None = None) -> Weights:
    """Have a model's file on this machine: as ``resolve``, but a damaged one in the cache is fetched again.

    Every byte of a file that is there already is read. A damaged one stays until the new one is whole.

    Args:
        model: A name of ``list_models``, or several of them joined by ``+``.
        progress: Called with the file's name, the bytes so far, and all bytes or None.
        models: Known models; the packaged table by default.

    Raises:
        UnknownModelError: No such name.
        WeightsUnavailableError: Downloading is off or failed.
        ChecksumError: Every download has other bytes than the pinned ones.
    """
    known = {spec.name: spec for spec in (list_models() if models is None else models)}
    if JOIN in model:
        return _ensemble([pull(name, progress=progress, models=models) for name in model.split(JOIN)])
    if model not in known:
        raise unknown_model(model, known, f"names are {', '.join(known)}")
    spec, target = known[model], _target(known[model])
    if not spec.packaged and target.is_file():
        try:
            _check(spec, target, None)
        except (ChecksumError, WeightsUnavailableError) as error:
            if _offline_by_environment():
                raise _unavailable(spec, f"downloading is switched off; {error.got}") from error
            _log.warning("%s: fetching it again", error.got)
            _fetch(spec, progress)
    return resolve(model, progress=progress, models=models)


def locate(spec: ModelSpec) -> Path | None:
    """Return the file that ``resolve`` would use without downloading, or None.

    A packaged file is where this module is.

    A file in the cache is returned whatever its bytes; one in a folder of rembg only if its hash is right.
    """
    if spec.packaged:
        return Path(__file__).with_name(spec.file)
    if _target(spec).is_file():
        return _target(spec)
    for path in _folders_of_rembg(spec):
        if not path.is_file() or not spec.is_pinned:
            continue
        try:
            _check(spec, path, cache_dir() / "verified")
        except (ChecksumError, WeightsUnavailableError) as error:
            _log.warning("passed over %s: %s", path, error.got)
        else:
            return path
    return None


def verify(model: str, *, models: Sequence[ModelSpec] | None = None) -> Weights:
    """Read every byte of a model's file again and compare its hash, without downloading.

    Args:
        model: A name of ``list_models``, or the path of a file.
        models: Known models; the packaged table by default.

    Raises:
        UnknownModelError: Neither a known name nor a usable file.
        WeightsUnavailableError: The file is not on this machine.
        ChecksumError: The bytes differ from the pinned ones.
        ConfigError: The description beside an own file is wrong.
    """
    found = resolve(model, offline=True, models=models)
    return replace(found, sha256=_check(found.spec, found.path, None).sha256)


def _fetch(spec: ModelSpec, progress: Progress | None) -> None:
    """Download a model's file into the cache."""
    from cutray.models import download  # loads HTTP and TLS, which only a missing file needs

    _log.warning("fetching %s for model %s; licence: %s; origin: %s", spec.file, spec.name, spec.license, spec.origin)
    try:
        download.fetch(spec, _target(spec), progress)
    except WeightsUnavailableError as error:
        raise _unavailable(spec, error.got) from error


def _ensemble(members: Sequence[Weights]) -> Weights:
    """Describe several networks as one, whose input is prepared for each of them when it runs."""
    distinct = list({member.identity: member for member in members}.values())
    if len(distinct) < 2:
        raise UnknownModelError(
            got=f"an ensemble of {members[0].spec.name!r} alone", allowed="different networks", fix="name two or more"
        )
    name = JOIN.join(member.spec.name for member in distinct)
    spec = ModelSpec(
        name=name,
        architecture="ensemble",
        file="",
        size_bytes=sum(member.spec.size_bytes for member in distinct),
        sha256="",
        license="; ".join(dict.fromkeys(member.spec.license for member in distinct)),
        origin=", ".join(dict.fromkeys(member.spec.origin for member in distinct)),
        input_size_px=max(member.spec.input_size_px for member in distinct),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        scale="255",
        description="mean of the log-odds of " + ", ".join(member.spec.name for member in distinct),
    )
    digest = hashlib.sha256("".join(member.identity for member in distinct).encode()).hexdigest()
    return Weights(spec, Path(name), digest, tuple(distinct))


def _registered(model: str, known: dict[str, ModelSpec]) -> Weights:
    """Take a model from the registry; its name tells the version."""
    pinned = registry.pin(model)
    found = _own_file(str(registry.fetch(pinned, cache_dir()) / registry.FILE), known)
    return replace(found, spec=replace(found.spec, name=pinned.removeprefix(registry.SCHEME), origin=pinned))


def _own_file(model: str, known: dict[str, ModelSpec]) -> Weights:
    """Take a file that the user names by its path."""
    path = expand_user(model, "the model")
    if path.suffix.lower() not in SUFFIXES or not os.path.isfile(path):
        raise unknown_model(model, known, f"names are {', '.join(known)}; files end in {', '.join(SUFFIXES)}")
    spec = describe_file(path)
    found = _check(spec, path, cache_dir() / "verified")
    same = next((other for other in known.values() if other.sha256 == found.sha256), None)
    return Weights(describe_file(path, same) if same else spec, path, found.sha256)


def _check(spec: ModelSpec, path: Path, hash_cache: Path | None) -> hashing.Digests:
    """Hash a file and compare it with its pins."""
    found = hashing.digest_file(path, hash_cache, with_md5=bool(spec.md5) and not spec.sha256)
    hashing.check(
        str(path),
        found,
        path.stat().st_size,
        sha256=spec.sha256,
        md5=spec.md5,
        expected_bytes=spec.size_bytes,
        fix="install Cutray again"
        if spec.packaged
        else f"run `cutray models pull {spec.name}`, which fetches it again"
        if path == _target(spec)
        else "replace that file",
    )
    return found


def _target(spec: ModelSpec) -> Path:
    """Return where a model's file lies in the cache."""
    return cache_dir() / "models" / spec.file


def _folders_of_rembg(spec: ModelSpec) -> list[Path]:
    """Return where rembg, present and older versions, would have put the same file."""
    old, own = (os.environ.get(name, "") for name in ("U2NET_HOME", "REMBG_HOME"))
    home = expand_user(old or own, "U2NET_HOME or REMBG_HOME") if old or own else data_dir("rembg", ".rembg")
    flat = expand_user(old, "U2NET_HOME") if old else data_dir(".u2net", ".u2net")
    return [
        *([home / "models" / Path(spec.file).stem / spec.file] if home else []),
        *([flat / spec.file] if flat else []),
    ]


def _offline_by_environment() -> bool:
    """Tell whether the environment forbids downloads."""
    return os.environ.get("CUTRAY_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def _unavailable(spec: ModelSpec, reason: str) -> WeightsUnavailableError:
    """Say what is missing, where it was looked for, and how to get it."""
    from cutray.models import download

    looked = ", ".join(str(path) for path in [_target(spec), *_folders_of_rembg(spec)])
    size = f" ({spec.size_bytes:,} bytes)" if spec.size_bytes else ""
    commands = [f"`cutray models pull {spec.name}` on a machine with a network"]
    commands += [download.manual_way(source) for source in spec.sources]
    return WeightsUnavailableError(
        got=f"the weights {spec.file}{size} of model {spec.name!r} are not on this machine and {reason}",
        allowed=f"looked for in {looked}",
        fix=f"get the file with one of: {'; '.join(commands)}; and put it at {_target(spec)}",
    )
