"""Every setting once: its default, range, unit and meaning.

The command line, the batch job, the HTTP endpoint and the presets all read these classes; no default is
written down anywhere else. Command-line options, fingerprints of runs and docs/settings.md are derived from the
fields and their metadata. Unknown keys and values out of range are reported together, with a suggestion.
"""

from __future__ import annotations

from cutray.config.base import Settings, parse_settings
from cutray.config.batch import BatchSettings
from cutray.config.canvas import CanvasSettings
from cutray.config.drift import DriftSettings
from cutray.config.hints import HintSettings
from cutray.config.jobs import JobSettings
from cutray.config.metadata import Setting, describe_differences, fingerprint, result_values, setting_of, walk_fields
from cutray.config.refiner import RefinerSettings
from cutray.config.remover import (
    EFFORTS,
    MIB,
    Effort,
    EngineSettings,
    InputLimits,
    MattingSettings,
    OutputSettings,
    PhotoSettings,
    PictureSettings,
    ReadingSettings,
    RemoverSettings,
    overlay,
)
from cutray.config.rollout import RolloutRules
from cutray.config.shared import AdamWSettings, ClusterSettings, RunSettings
from cutray.config.sweep import SchedulerSettings, SweepSettings
from cutray.config.training import AUTO, Architecture, LossSettings, OptimSettings, TrainSettings
from cutray.config.training_data import AugmentSettings, DataSettings

__all__ = [
    "AUTO",
    "EFFORTS",
    "MIB",
    "AdamWSettings",
    "Architecture",
    "AugmentSettings",
    "BatchSettings",
    "CanvasSettings",
    "ClusterSettings",
    "DataSettings",
    "DriftSettings",
    "Effort",
    "EngineSettings",
    "HintSettings",
    "InputLimits",
    "JobSettings",
    "LossSettings",
    "MattingSettings",
    "OptimSettings",
    "OutputSettings",
    "PhotoSettings",
    "PictureSettings",
    "ReadingSettings",
    "RefinerSettings",
    "RemoverSettings",
    "RolloutRules",
    "RunSettings",
    "SchedulerSettings",
    "Setting",
    "Settings",
    "SweepSettings",
    "TrainSettings",
    "describe_differences",
    "fingerprint",
    "overlay",
    "parse_settings",
    "result_values",
    "setting_of",
    "walk_fields",
]
