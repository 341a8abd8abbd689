"""The addresses of roll-outs without a cluster behind them: for administrators alone, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
httpx = pytest.importorskip("httpx")

from cutray.console.run import run  # noqa: E402
from cutray.errors import ConfigError  # noqa: E402
from serve_apps.remover.api import create_api  # noqa: E402
from serve_apps.remover.schemas import AppArgs, ErrorReply  # noqa: E402
from serve_apps.remover.service import Service  # noqa: E402
from serve_apps.rollout.command import rollout  # noqa: E402

KEYS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("shop", "ops")}
ADDRESSES = [("POST", "/rollout"), ("GET", "/rollout"), ("POST", "/rollout/promote"), ("POST", "/rollout/abort")]


class Controller:
    """Stands where the handle of a RolloutController would be: takes calls, and answers with what it was given."""

    def __init__(self, answer: Any) -> None:
        """Keep the answer."""
        self.answer, self.calls = answer, []  # type: ignore[var-annotated]

    def __getattr__(self, method: str) -> Any:
        """Return a method as a handle does."""

        class Method:
            @staticmethod
            async def remote(*arguments: Any) -> Any:
                self.calls.append((method, *arguments))
                if isinstance(self.answer, Exception):
                    raise self.answer
                return self.answer

        return Method


def call(method: str, path: str, *, key: str = "", answer: Any = None, **options: Any) -> Any:
    """Send one request straight to the application; returns the answer, and what the controller was asked."""
    args = options.pop("args", {"api_keys": KEYS, "admin_keys": ["ops"]})
    controller: Any = Controller({} if answer is None else answer)
    headers = {"X-API-Key": key} if key else {}

    async def send() -> Any:
        transport = httpx.ASGITransport(create_api(Service(None, {}, AppArgs(**args), controller)))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers, **options)

    return asyncio.run(send()), controller.calls


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_administrators_alone_come_in(method: str, path: str) -> None:
    """No key is 401, another key 403, and so is every key of an endpoint that has no administrators."""
    body = {"model": "u2netp", "shadow": 0.1}
    for key, args, status in (
        ("", {"api_keys": KEYS, "admin_keys": ["ops"]}, 401),
        ("shop", {"api_keys": KEYS, "admin_keys": ["ops"]}, 403),
        ("ops", {"api_keys": KEYS}, 403),
        ("", {}, 403),
    ):
        answer, calls = call(method, path, key=key, args=args, json=body)
        assert (answer.status_code, calls) == (status, [])
    answer, calls = call(method, path, key="ops", json=body)
    assert answer.status_code in (200, 202)
    assert len(calls) == 1


def test_an_administrator_needs_a_key() -> None:
    """A name in `admin_keys` that no key has is an error before anything is served."""
    with pytest.raises(ConfigError, match="'op', which is no API key"):
        Service(None, {}, AppArgs(api_keys=KEYS, admin_keys=["op"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"[1]", 400, "bad_request"),
        (b"[" * 60_000, 400, "bad_request"),
        (b"{" + b" " * 70_000, 413, "body_too_large"),
        (b'{"model": "u2netp"}', 400, "bad_option"),
        (b'{"model": "", "shadow": 0.1}', 400, "bad_option"),
        (b'{"model": "u2netp", "shadow": 2}', 400, "bad_option"),
        (b'{"model": "u2netp", "shadow": NaN}', 400, "bad_option"),
        (b'{"model": "a\\u0000b", "shadow": 0.1}', 400, "bad_option"),
        (b'{"model": "a\\ud800b", "shadow": 0.1}', 400, "bad_option"),
        (b'{"model": "u2netp", "shadow": 0.1, "rules": {"max_duration_s": Infinity}}', 400, "bad_option"),
        (b'{"model": "u2netp", "shadow": 0.1, "alias": "a b"}', 400, "bad_option"),
        (b'{"model": "u2netp", "shadow": 0.1, "rules": {"min_request": 3}}', 400, "bad_option"),
    ],
)
def test_wrong_bodies_are_refused(body: bytes, status: int, code: str) -> None:
    """What is no JSON, too long, misspelt or out of range is an error, and the controller is not asked."""
    answer, calls = call("POST", "/rollout", key="ops", content=body)
    assert (answer.status_code, answer.json()["code"], calls) == (status, code, [])


def test_what_the_controller_says_is_answered() -> None:
    """Its refusals keep their codes, what is unforeseen is 503, and a state is passed on."""
    body = {"model": "u2netp", "canary": 0.1}
    busy, _ = call("POST", "/rollout", key="ops", json=body, answer=ErrorReply("rollout_running", "shoes is running."))
    assert (busy.status_code, busy.json()["message"]) == (409, "shoes is running.")
    away, _ = call("GET", "/rollout", key="ops", answer=RuntimeError("/secret"))
    assert away.status_code == 503
    assert "secret" not in away.text
    told, ((method, request),) = call("POST", "/rollout", key="ops", json=body, answer={"state": "loading"})
    assert (told.status_code, told.json(), method) == (202, {"state": "loading"}, "start")
    assert (request.model, request.canary, request.shadow) == ("u2netp", 0.1, 0.0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["start", "u2netp"], "neither --shadow nor --canary"),
        (["start", "u2netp", "--shadow", "110%"], "at most 100 %"),
        (["status", "--url", "ftp://host"], "http:// and https://"),
        (["status", "--url", "http://127.0.0.1:9"], "does not answer"),
    ],
)
def test_the_command_says_what_is_wrong(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing and impossible shares, strange addresses and an endpoint that is away are clear errors."""
    assert run(rollout, words) != 0
    assert told in capsys.readouterr().err


def test_the_description_names_the_rules() -> None:
    """The OpenAPI document says what may be in the body."""
    document = create_api(Service(None, {}, AppArgs())).openapi()  # type: ignore[arg-type]
    schema = document["paths"]["/rollout"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"model", "shadow", "canary", "rules"} <= set(schema["properties"])
    assert "min_mean_iou" in schema["properties"]["rules"]["properties"]
    assert "$ref" not in json.dumps(schema)
