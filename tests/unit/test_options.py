"""The typed options of the Python functions are the fields of the settings, name by name and type by type."""

from __future__ import annotations

from typing import get_type_hints

from cutray.config import EngineSettings, InputLimits, PhotoSettings, RemoverSettings
from cutray.options import PhotoOptions, RemoverOptions


def _types(fields: dict[str, object]) -> dict[str, object]:
    """Return the plain types of some fields of settings."""
    hints = get_type_hints(RemoverSettings)
    return {name: hints[name] for name in fields}


def test_options_of_a_remover_are_all_its_settings_but_the_model() -> None:
    """The model is an argument of its own."""
    fields = {name: None for name in RemoverSettings.model_fields if name != "model"}
    assert get_type_hints(RemoverOptions) == _types(fields)


def test_options_of_one_call_leave_out_the_engine() -> None:
    """What was loaded cannot change from call to call."""
    fields = {**InputLimits.model_fields, **PhotoSettings.model_fields}
    assert get_type_hints(PhotoOptions) == _types(dict(fields))
    assert not get_type_hints(PhotoOptions).keys() & EngineSettings.model_fields.keys()
