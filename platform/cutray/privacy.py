"""Switch off the usage statistics of the libraries that Cutray is built on, in this process and those it starts.

``import cutray`` sets the variables, before any of these libraries is loaded. OpenVINO has no variable of that kind,
so it is imported through ``import_openvino`` alone.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from typing import Any

# Each library reads its switches when it is imported or starts.
OPT_OUT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A Ray that is switched off reports just that, once. It gets an address of this machine where nothing listens.
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}
_OPENVINO_TELEMETRY = "openvino_telemetry"
_lock = threading.Lock()


def disable_telemetry() -> None:
    """Set the switches in the environment; one that the user has set to something stays."""
    for variable, off in OPT_OUT.items():
        if not os.environ.get(variable, "").strip():
            os.environ[variable] = off


def import_openvino() -> Any:
    """Import OpenVINO without its reporter, which would call a statistics service at every import.

    Returns:
        The module.

    Raises:
        ImportError: OpenVINO is not installed or cannot be loaded.
    """
    with _lock:
        # Python refuses to import a module whose entry is None. OpenVINO then takes its own reporter that does nothing.
        hide = _OPENVINO_TELEMETRY not in sys.modules
        if hide:
            sys.modules[_OPENVINO_TELEMETRY] = None  # type: ignore[assignment]  # documented by Python
        try:
            import openvino
            import openvino.passes
        finally:
            if hide:
                del sys.modules[_OPENVINO_TELEMETRY]
    return openvino


def disable_ray_reporter() -> None:
    """Let a Ray that this process starts without a dashboard do so without the reporter of usage statistics too.

    Switched off, the reporter still asks the network in which cloud it runs. Call this before ``ray.init``.
    """
    from ray._private import node as ray_node

    node_class: Any = ray_node.Node
    start = node_class.start_api_server
    if hasattr(start, "__wrapped__"):
        return

    @functools.wraps(start)
    def start_if_wanted(node: Any, *, include_dashboard: bool | None, raise_on_failure: bool) -> None:
        # Without a dashboard the reporter is all that the process would run.
        if include_dashboard is not False:
            start(node, include_dashboard=include_dashboard, raise_on_failure=raise_on_failure)

    node_class.start_api_server = start_if_wanted


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its reporter off: by variable, and on Windows by a call.

    Returns:
        The module.

    Raises:
        ImportError: ONNX Runtime is not installed or cannot be loaded.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
