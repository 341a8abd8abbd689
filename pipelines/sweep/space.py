"""The search space: which settings vary, within what, and which values are tried first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cutray.config import RemoverSettings, Settings, SweepSettings, TrainSettings, parse_settings
from cutray.config.paths import absolute_model
from cutray.errors import ConfigError
from pipelines.run_settings import assign, load_settings, merged

_RANGES = ("uniform", "loguniform", "int")
_FORMS = "choice: [a, b], uniform: [low, high], loguniform: [low, high], or int: [low, high]"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting that varies.

    Attributes:
        path: Dotted path of the setting.
        kind: choice, uniform, loguniform or int.
        values: The choices, or the lowest and the highest value.
        when: Values of other dimensions under which this one counts; empty for always.
    """

    path: str
    kind: str
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]]

    def counts(self, chosen: Mapping[str, Any]) -> bool:
        """Tell whether it counts, given what was chosen before."""
        return all(path in chosen and chosen[path] in allowed for path, allowed in self.when.items())

    def holds(self, value: Any) -> bool:
        """Tell whether a value lies within."""
        if self.kind == "choice":
            return value in self.values
        return isinstance(value, int | float) and self.values[0] <= value <= self.values[1]

    def suggest(self, trial: Any) -> Any:
        """Ask Optuna for a value."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.path, list(self.values))
        low, high = self.values
        if self.kind == "int":
            return trial.suggest_int(self.path, low, high)
        return trial.suggest_float(self.path, low, high, log=self.kind == "loguniform")

    def distribution(self) -> Any:
        """Say the same to Optuna's analyses."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(list(self.values))
        low, high = self.values
        if self.kind == "int":
            return distributions.IntDistribution(low, high)
        return distributions.FloatDistribution(low, high, log=self.kind == "loguniform")


class SearchSpace:
    """All that varies in a sweep. Called with one of Optuna's trials, it asks for a value of each that counts."""

    def __init__(self, sweep: SweepSettings) -> None:
        """Read and check the space; nothing has been started yet.

        Args:
            sweep: The sweep. Every end of every range is tried on the settings, so that no trial can fail over it.

        Raises:
            ConfigError: A path is unknown, a range is empty or turned round, or a value is not allowed.
        """
        self.kind: type[Settings] = TrainSettings if sweep.job == "train" else RemoverSettings
        self.base = _base(sweep)
        self.dimensions: list[Dimension] = []
        problems = []
        for path, entry in sweep.search.items():
            try:
                self.dimensions.append(self._checked(_dimension(path, entry, self.dimensions)))
            except ConfigError as error:
                problems.append(error.got)
        if problems:
            raise ConfigError(got="; ".join(problems), allowed=_FORMS, fix="correct the search space")

    def __call__(self, trial: Any) -> None:
        """Ask for a value of each dimension that counts."""
        chosen: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.counts(chosen):
                chosen[dimension.path] = dimension.suggest(trial)

    def settings(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings of a trial, nested.

        Args:
            chosen: Value by path.
        """
        values = merged({}, self.base)
        for path, value in chosen.items():
            assign(values, path, value)
        return values

    def defaults(self) -> dict[str, Any] | None:
        """Return the values that preset and defaults have, or None when the space leaves them out."""
        whole = parse_settings(self.kind, self.base).model_dump()
        chosen: dict[str, Any] = {}
        for dimension in self.dimensions:
            if not dimension.counts(chosen):
                continue
            value = whole
            for name in dimension.path.split("."):
                value = value[name]
            if not dimension.holds(value):
                return None
            chosen[dimension.path] = value
        return chosen

    def _checked(self, dimension: Dimension) -> Dimension:
        """Try each end of a range, or each choice, on the settings."""
        for value in dimension.values:
            parse_settings(self.kind, self.settings({dimension.path: value}))
        if dimension.path not in ("init", "teacher", "model"):
            return dimension
        return replace(dimension, values=tuple(absolute_model(str(value)) for value in dimension.values))


def _base(sweep: SweepSettings) -> dict[str, Any]:
    """Put together what all trials have in common."""
    if sweep.job == "remove":
        if sweep.preset:
            raise ConfigError(
                got=f"preset {sweep.preset!r} for a job that does not train", allowed="a preset with job: train"
            )
        values = merged({"only_mask": True}, sweep.settings)
        return {name: absolute_model(value) if name == "model" else value for name, value in values.items()}
    values = merged(load_settings(sweep.preset, None), sweep.settings)
    assign(values, "data.folders", list(sweep.data) or None)
    # Trials run in folders of their own: paths are made absolute here.
    return parse_settings(TrainSettings, values).model_dump(exclude_unset=True)


def _dimension(path: str, entry: Mapping[str, Any], before: list[Dimension]) -> Dimension:
    """Read one entry of the space."""
    kinds = [name for name in entry if name != "when"]
    if len(kinds) != 1 or kinds[0] not in ("choice", *_RANGES):
        raise ConfigError(
            got=f"{path}: {', '.join(kinds) or 'nothing'} says how it varies",
            allowed=f"one of choice, {', '.join(_RANGES)}",
        )
    (kind,) = kinds
    values = entry[kind]
    if not isinstance(values, list) or not values:
        raise ConfigError(got=f"{path}: {kind} {values!r} is no list of values", fix="write [a, b]")
    if kind in _RANGES:
        values = _ends(path, kind, values)
    when, conditions = {}, entry.get("when") or {}
    if not isinstance(conditions, Mapping):
        raise ConfigError(got=f"{path}: when {conditions!r} is no table", fix="write when: {other.setting: value}")
    for other, allowed in conditions.items():
        if other not in {dimension.path for dimension in before}:
            raise ConfigError(
                got=f"{path}: when {other}, which does not vary or comes later", fix=f"put {other} before it"
            )
        when[other] = tuple(allowed) if isinstance(allowed, list) else (allowed,)
    return Dimension(path, kind, tuple(values), when)


def _ends(path: str, kind: str, values: list[Any]) -> list[float]:
    """Read the ends of a range; YAML takes 1e-4 for a word."""
    number = int if kind == "int" else float
    try:
        ends = [number(value) for value in values]
    except (TypeError, ValueError):
        ends = []
    low_enough = kind != "loguniform" or (ends and ends[0] > 0)
    if len(ends) != 2 or not ends[0] < ends[1] or not all(map(math.isfinite, ends)) or not low_enough:
        positive = " above 0" if kind == "loguniform" else ""
        raise ConfigError(
            got=f"{path}: {kind} {values!r} is not a lower and a higher number{positive}", fix="write [low, high]"
        )
    return ends
