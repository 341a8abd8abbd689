"""Tensors as JSON: how much memory they may take, and where that is refused."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")

from cutray.models.catalog import list_models  # noqa: E402
from serve_apps.remover.api import create_api  # noqa: E402
from serve_apps.remover.errors import ApiError  # noqa: E402
from serve_apps.remover.schemas import AppArgs, Limits  # noqa: E402
from serve_apps.remover.service import Service  # noqa: E402
from serve_apps.remover.tensors import read_request  # noqa: E402

MIB = 1 << 20
SPEC = next(spec for spec in list_models() if spec.name == "u2netp")
LARGEST = Limits().max_tensor_json_bytes


def body_of(data: bytes, pictures: int = 1) -> bytes:
    """Return a request with these data."""
    shape = f"[{pictures}, 3, {SPEC.input_size_px}, {SPEC.input_size_px}]".encode()
    return b'{"inputs":[{"name":"image","datatype":"FP32","shape":' + shape + b',"data":[' + data + b"]}]}"


@pytest.mark.parametrize("unit", [b"0.5", b"999", b"[]", b"{}", b'"ab"', b"[[],{}]", b'{"a":0}', b"1e1", b"9" * 400])
def test_no_json_takes_much_memory(unit: bytes) -> None:
    """Whatever the largest body is made of, reading it takes at most twelve times as much memory."""
    body = body_of(b",".join([unit] * (LARGEST // (len(unit) + 1))))
    tracemalloc.start()
    try:
        with pytest.raises(ApiError):
            read_request(body, None, SPEC, 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * LARGEST, f"{peak / MIB:.0f} MiB"


@pytest.mark.parametrize("nested", [True, False])
def test_a_picture_in_full_digits_is_read(nested: bool) -> None:
    """One picture as a usual client writes it is within the limits, flat or nested."""
    tensor = np.random.default_rng(0).random((1, 3, SPEC.input_size_px, SPEC.input_size_px), np.float32)
    data = json.dumps((tensor if nested else tensor.ravel()).tolist())[1:-1].encode()
    body = body_of(data)
    assert len(body) < LARGEST
    assert np.array_equal(read_request(body, None, SPEC, 10)[0], tensor)


@pytest.mark.parametrize("declared", [True, False])
def test_json_that_is_too_large_is_not_received(declared: bool) -> None:
    """Before the body where its length is told, else when it is too much; the error names the limit and the way out."""
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(31):
            taken += 1
            yield b"0" * MIB

    async def send() -> Any:
        service = Service(None, {"u2netp": None}, AppArgs(models=["u2netp"]))
        transport = httpx.ASGITransport(create_api(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"Content-Length": str(31 * MIB)} if declared else {}
            return await client.post("/v2/models/u2netp/infer", content=chunks(), headers=headers)

    answer = asyncio.run(send())
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert f"8 MiB ({LARGEST} bytes)" in answer.json()["error"] and "binary tensor data" in answer.json()["error"]
    assert taken == 0 if declared else taken < 10
