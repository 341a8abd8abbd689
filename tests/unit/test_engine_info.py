"""An engine is text in reports and manifests, and three named words in code."""

from __future__ import annotations

import pytest

from cutray.engines.base import EngineInfo
from cutray.errors import EngineError


def test_its_text_is_what_reports_have_always_said_and_is_read_back() -> None:
    """Name, device and precision, with spaces in between."""
    info = EngineInfo("onnxruntime", "cuda", "fp16")
    assert str(info) == "onnxruntime cuda fp16"
    assert EngineInfo.parse(str(info)) == info


@pytest.mark.parametrize("text", ["", "openvino", "openvino cpu", "openvino cpu bf16 twice"])
def test_another_text_is_refused(text: str) -> None:
    """Fewer or more words name no engine."""
    with pytest.raises(EngineError, match="name, device and precision"):
        EngineInfo.parse(text)
