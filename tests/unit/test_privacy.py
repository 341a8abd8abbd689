"""The switches against usage statistics are set before the libraries that read them are loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cutray.privacy import OPT_OUT, disable_telemetry, import_openvino


def _python(script: str, **variables: str) -> str:
    """Run a script without any switch in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in OPT_OUT} | variables
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True).stdout


def test_importing_the_package_sets_all_switches() -> None:
    """Children inherit them."""
    assert (
        _python(
            "import cutray, os; print(all(os.environ[name] == value for name, value in cutray.privacy.OPT_OUT.items()))"
        )
        == "True\n"
    )


def test_choice_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants to report may; an empty variable is no choice, and Ray would refuse it."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", " ")
    disable_telemetry()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_openvino_gets_no_reporter() -> None:
    """Its parts that would report hold its own silent stand-in; the hidden package can be imported afterwards."""
    pytest.importorskip("openvino_telemetry")
    script = (
        "from cutray.privacy import import_openvino; import_openvino()\n"
        "import openvino.tools.ovc.telemetry_utils as parts; print(parts.tm.__name__)\n"
        "import openvino_telemetry; print(openvino_telemetry.__name__)"
    )
    assert _python(script).split() == ["openvino.tools.ovc.telemetry_stub", "openvino_telemetry"]


def test_openvino_is_the_same_module_each_time() -> None:
    """A second call changes nothing."""
    pytest.importorskip("openvino")
    assert import_openvino() is import_openvino() is sys.modules["openvino"]


def test_cutting_out_loads_no_client_of_the_network() -> None:
    """Modules for HTTP and TLS are a tenth of a second of each start, and nothing here needs them."""
    names = "('ssl', 'http.client', 'urllib.request')"
    script = f"import cutray.remover, sys; print([name for name in {names} if name in sys.modules])"
    assert _python(script) == "[]\n"
