"""rembg's list of sessions: the names that ``new_session`` takes, and their common class."""

from __future__ import annotations

from typing import Any

from cutray.compat.sessions.base import BaseSession as BaseSession
from cutray.compat.sessions.base import classic_mask as classic_mask
from cutray.models.catalog import list_models

sessions_names = [spec.name for spec in list_models()]
sessions_names_no_credentials = sessions_names
sessions_names_downloadable = sessions_names
sessions: dict[str, Any] = dict.fromkeys(sessions_names, BaseSession)
sessions_class = list(sessions.values())
