"""The door at the proxy, in front of a plain ASGI application that takes as many photos as an Ingress would."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")

from serve_apps.remover.door import Door
from serve_apps.remover.errors import ApiError, error_response

ROOM = 4
PATH = "/remove-background"


@dataclass
class Ingress:
    """Takes ``room`` photos; each is done when the test says so."""

    room: int = ROOM
    asked: int = 0
    inside: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse what there is no room for, read the body, and work until told to finish."""
        self.asked += 1
        while (await receive()).get("more_body"):
            pass
        if self.inside >= self.room:
            await error_response(ApiError("overloaded", retry_after_s=7), scope)(scope, receive, send)
            return
        self.inside += 1
        await self.done.wait()
        self.inside -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"cutout"})


@dataclass
class Client:
    """Sends requests through one door and keeps the answers."""

    door: Door
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    reads: int = 0

    def ask(self, path: str = PATH, method: str = "POST", upload: asyncio.Event | None = None) -> asyncio.Task[None]:
        """Begin one request; its body arrives at once, or when ``upload`` is set."""

        async def receive() -> Any:
            self.reads += 1
            if upload:
                await upload.wait()
            return {"type": "http.request", "body": b"photo", "more_body": False}

        parts: list[Any] = []

        async def send(message: Any) -> None:
            parts.append(message)

        async def run() -> None:
            scope = {"type": "http", "method": method, "path": path, "headers": [(b"x-request-id", b"order-42")]}
            await self.door(scope, receive, send)
            headers = {name.decode(): value.decode() for name, value in parts[0]["headers"]}
            self.answers.append((parts[0]["status"], headers, b"".join(part.get("body", b"") for part in parts[1:])))

        return asyncio.get_running_loop().create_task(run())

    async def ask_many(self, count: int) -> list[asyncio.Task[None]]:
        """Begin several requests and let them get as far as they can."""
        tasks = [self.ask() for _ in range(count)]
        await settle()
        return tasks


async def settle() -> None:
    """Let all tasks run until they wait for something."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_the_first_refusal_closes_the_door() -> None:
    """What comes after a refusal is refused without a read and without a word to the Ingress, in the same words."""

    async def scene() -> None:
        ingress, now = Ingress(), [0.0]
        client = Client(Door(ingress, clock=lambda: now[0]))
        await client.ask_many(ROOM + 1)
        assert (ingress.asked, [status for status, _, _ in client.answers]) == (ROOM + 1, [429])
        reads = client.reads
        await client.ask_many(10)
        assert (ingress.asked, client.reads) == (ROOM + 1, reads)
        status, headers, body = client.answers[-1]
        assert (status, headers["retry-after"], headers["x-error-code"]) == (429, "7", "overloaded")
        assert json.loads(body)["request_id"] == "order-42"
        ingress.done.set()
        await settle()
        assert sorted(status for status, _, _ in client.answers) == [200] * ROOM + [429] * 11

    asyncio.run(scene())


def test_a_burst_teaches_the_true_bound() -> None:
    """Many requests on their way at once do not leave a bound that is far too high."""

    async def scene() -> None:
        ingress = Ingress()
        client = Client(Door(ingress, clock=lambda: 0.0))
        await client.ask_many(5 * ROOM)
        assert len(client.answers) == 4 * ROOM
        asked = ingress.asked
        await client.ask_many(3)
        assert ingress.asked == asked

    asyncio.run(scene())


def test_a_place_that_is_free_is_given_away() -> None:
    """One photo done lets one more in, and an endpoint half empty takes all again."""

    async def scene() -> None:
        ingress = Ingress()
        client = Client(Door(ingress, clock=lambda: 0.0))
        first = await client.ask_many(ROOM + 1)
        first[0].cancel()  # a client that goes away
        await settle()
        ingress.inside -= 1
        asked = ingress.asked
        await client.ask_many(3)
        assert ingress.asked == asked + 1
        ingress.done.set()
        await settle()
        ingress.done.clear()
        ingress.room = 100
        await client.ask_many(50)
        assert ingress.inside == 50

    asyncio.run(scene())


def test_the_bound_grows_with_time() -> None:
    """Ingresses that were added are found out: each second one more is let through to ask."""

    async def scene() -> None:
        ingress, now = Ingress(), [0.0]
        client = Client(Door(ingress, clock=lambda: now[0]))
        await client.ask_many(ROOM + 1)
        ingress.room = 100
        now[0] = 2.5
        await client.ask_many(10)
        assert ingress.inside == ROOM + 2

    asyncio.run(scene())


def test_slow_uploads_keep_nobody_out() -> None:
    """Requests whose body does not come count for nothing, whatever was learned before."""

    async def scene() -> None:
        ingress, upload = Ingress(), asyncio.Event()
        client = Client(Door(ingress, clock=lambda: 0.0))
        await client.ask_many(ROOM + 1)
        ingress.done.set()
        await settle()
        ingress.done.clear()
        slow = [client.ask(upload=upload) for _ in range(10 * ROOM)]
        await settle()
        await client.ask_many(ROOM)
        assert ingress.inside == ROOM
        for task in slow:
            task.cancel()
        await settle()

    asyncio.run(scene())


def test_looks_at_its_state_always_pass() -> None:
    """A full endpoint still answers GET, and says in remove.bg's shape to its clients that it is full."""

    async def scene() -> None:
        ingress = Ingress()
        client = Client(Door(ingress, clock=lambda: 0.0))
        await client.ask_many(ROOM + 1)
        asked = ingress.asked
        client.ask("/health", "GET")
        client.ask("/v1.0/removebg")
        await settle()
        assert ingress.asked == asked + 1
        assert [entry["title"] for entry in json.loads(client.answers[-1][2])["errors"]]

    asyncio.run(scene())


def test_a_batch_that_is_too_big_teaches_nothing() -> None:
    """A batch may be refused because it is large; single photos still find their place."""

    async def scene() -> None:
        ingress = Ingress(room=0)
        client = Client(Door(ingress, clock=lambda: 0.0))
        client.ask("/batch-remove-background")
        await settle()
        assert client.answers[0][0] == 429
        ingress.room = ROOM
        await client.ask_many(ROOM)
        assert ingress.inside == ROOM

    asyncio.run(scene())
