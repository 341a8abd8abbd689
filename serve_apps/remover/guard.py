"""The former name of ``request_limits``, for clusters whose nodes still name it in their environment.

Deprecated: use ``serve_apps.remover.request_limits:middlewares``. This module goes away in the next release.
"""

from __future__ import annotations

import warnings

from starlette.middleware import Middleware

from serve_apps.remover import request_limits


def middlewares() -> list[Middleware]:
    """Return ``request_limits.middlewares()``, and warn."""
    warnings.warn(
        "serve_apps.remover.guard:middlewares is deprecated; "
        "set RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve_apps.remover.request_limits:middlewares",
        DeprecationWarning,
        stacklevel=2,
    )
    return request_limits.middlewares()
