"""Every setting once: its default, range, unit and meaning.

The command line, the batch job, the HTTP endpoint and the presets all read these classes; no default is
written down anywhere else. Unknown keys and values out of range are reported together, with a suggestion.
"""

from __future__ import annotations

from cutray.config.base import Settings, parse_settings
from cutray.config.batch import BatchSettings
from cutray.config.refiner import RefinerSettings
from cutray.config.remover import (
    EFFORTS,
    MIB,
    Effort,
    EngineSettings,
    InputLimits,
    MattingSettings,
    OutputSettings,
    RemoverSettings,
)
from cutray.config.sweep import SchedulerSettings, SweepSettings
from cutray.config.training import AugmentSettings, DataSettings, LossSettings, OptimSettings, TrainSettings

__all__ = [
    "EFFORTS",
    "MIB",
    "AugmentSettings",
    "BatchSettings",
    "DataSettings",
    "Effort",
    "EngineSettings",
    "InputLimits",
    "LossSettings",
    "MattingSettings",
    "OptimSettings",
    "OutputSettings",
    "RefinerSettings",
    "RemoverSettings",
    "SchedulerSettings",
    "Settings",
    "SweepSettings",
    "TrainSettings",
    "parse_settings",
]
