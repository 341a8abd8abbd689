"""The load shedder at the proxy, in front of a plain ASGI application that takes as many photos as an Ingress would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")

from serve_apps.remover.errors import ApiError, error_response
from serve_apps.remover.load_shedder import CapacityHeader, LoadShedder

CAPACITY = 4
PATH, BATCH = "/remove-background", "/batch-remove-background"


@dataclass
class Ingress:
    """Takes ``capacity`` photos, ten of them in a batch; each request is done when the test says so."""

    capacity: int = CAPACITY
    asked: int = 0
    inside: int = 0
    leaving: list[asyncio.Event] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Say with each answer how much capacity is left."""
        await CapacityHeader(self._answer, lambda: max(0, self.capacity - self.inside))(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse what there is no capacity for, read the body, and work until told to finish."""
        self.asked += 1
        photos = 10 if "batch" in scope["path"] else 1
        while (await receive()).get("more_body"):
            pass
        if self.inside >= self.capacity or (self.inside and self.inside + photos > self.capacity):
            await error_response(ApiError("overloaded", retry_after_s=7), scope)(scope, receive, send)
            return
        if scope["path"].endswith("/broken/remove-background"):
            raise RuntimeError("broken")
        self.inside += photos
        self.leaving.append(done := asyncio.Event())
        try:
            await done.wait()
        finally:
            self.inside -= photos
        await send({"type": "http.response.start", "status": 200, "headers": [(b"vary", b"a"), (b"vary", b"b")]})
        await send({"type": "http.response.body", "body": b"cutout"})

    async def finish(self, count: int) -> None:
        """Let the oldest requests finish."""
        for done in self.leaving[:count]:
            done.set()
        del self.leaving[:count]
        await settle()


@dataclass
class Client:
    """Sends requests through one load shedder and keeps the answers."""

    app: Any
    answers: list[tuple[int, list[tuple[str, str]], bytes]] = field(default_factory=list)
    reads: int = 0

    def ask(
        self, path: str = PATH, method: str = "POST", upload: asyncio.Event | None = None, **headers: str
    ) -> asyncio.Task[None]:
        """Begin one request; its body arrives in two pieces at once, or the second when ``upload`` is set."""
        pieces = [b"pho", b"to"]

        async def receive() -> Any:
            self.reads += 1
            if upload and len(pieces) == 1:
                await upload.wait()
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        parts: list[Any] = []

        async def send(message: Any) -> None:
            parts.append(message)

        async def run() -> None:
            known = {"x-request-id": "order-42", "host": "shop.example", **headers}
            raw = [(name.encode(), value.encode()) for name, value in known.items()]
            await self.app({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)
            told = [(name.decode(), value.decode()) for name, value in parts[0]["headers"]]
            self.answers.append((parts[0]["status"], told, b"".join(part.get("body", b"") for part in parts[1:])))

        return asyncio.get_running_loop().create_task(run())

    async def ask_many(self, count: int, path: str = PATH, **headers: str) -> list[asyncio.Task[None]]:
        """Begin several requests and let them get as far as they can."""
        tasks = [self.ask(path, **headers) for _ in range(count)]
        await settle()
        return tasks


async def settle() -> None:
    """Let all tasks run until they wait for something."""
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass
class Scene:
    """An Ingress, the load shedder before it, a client, and the time."""

    ingress: Ingress = field(default_factory=Ingress)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        """Put the load shedder in its place."""
        self.client = Client(LoadShedder(self.ingress, clock=lambda: self.now_s))


def played(scene: Callable[[Scene], Awaitable[None]]) -> Callable[[], None]:
    """Run a test with a scene of its own in a loop of its own."""

    def test() -> None:
        async def play() -> None:
            await scene(Scene())

        asyncio.run(play())

    test.__doc__, test.__name__ = scene.__doc__, scene.__name__
    return test


@played
async def test_the_first_refusal_starts_shedding(scene: Scene) -> None:
    """What comes after a refusal is refused without a read and without a word to the Ingress, in the same words."""
    ingress, client = scene.ingress, scene.client
    await client.ask_many(CAPACITY + 1)
    assert (ingress.asked, [status for status, _, _ in client.answers]) == (CAPACITY + 1, [429])
    reads = client.reads
    await client.ask_many(10)
    assert (ingress.asked, client.reads) == (CAPACITY + 1, reads)
    status, headers, body = client.answers[-1]
    assert (status, dict(headers)["retry-after"], dict(headers)["x-error-code"]) == (429, "7", "overloaded")
    assert json.loads(body)["request_id"] == "order-42"
    await ingress.finish(CAPACITY)
    assert sorted(status for status, _, _ in client.answers) == [200] * CAPACITY + [429] * 11


@played
async def test_what_the_ingress_tells_goes_no_further(scene: Scene) -> None:
    """The capacity is not the client's to know; all other headers reach it, also those that occur twice."""
    await scene.client.ask_many(CAPACITY + 1)
    await scene.ingress.finish(CAPACITY)
    assert all("capacity" not in name for _, headers, _ in scene.client.answers for name, _ in headers)
    assert scene.client.answers[-1][1] == [("vary", "a"), ("vary", "b")]


@played
async def test_a_burst_teaches_the_true_bound(scene: Scene) -> None:
    """Many requests on their way at once do not leave a bound that is far too high."""
    await scene.client.ask_many(5 * CAPACITY)
    assert len(scene.client.answers) == 4 * CAPACITY
    asked = scene.ingress.asked
    await scene.client.ask_many(3)
    assert scene.ingress.asked == asked


@played
async def test_a_place_that_is_free_is_given_away(scene: Scene) -> None:
    """One photo done, or one client gone, lets one more in."""
    ingress, client = scene.ingress, scene.client
    first = await client.ask_many(CAPACITY + 1)
    await ingress.finish(1)
    asked = ingress.asked
    await client.ask_many(3)
    assert (ingress.asked, ingress.inside) == (asked + 1, CAPACITY)
    first[1].cancel()
    await settle()
    await client.ask_many(3)
    assert (ingress.asked, ingress.inside) == (asked + 2, CAPACITY)


@played
async def test_photos_of_a_batch_free_their_places(scene: Scene) -> None:
    """A batch counts as one request but holds ten photos; when it is done, ten others find their place."""
    scene.ingress.capacity = 21
    await scene.client.ask_many(2, BATCH)
    await scene.client.ask_many(2)
    assert (scene.ingress.inside, len(scene.client.answers)) == (21, 1)
    await scene.ingress.finish(1)
    await scene.client.ask_many(30)
    assert scene.ingress.inside == 21


@played
async def test_batches_alone_start_shedding(scene: Scene) -> None:
    """A full endpoint reads no batch; one that is too large for the capacity that is left closes nothing."""
    ingress, client = scene.ingress, scene.client
    ingress.capacity = 20
    await client.ask_many(3, BATCH)
    asked = ingress.asked
    await client.ask_many(5, BATCH)
    assert ingress.asked == asked
    await ingress.finish(2)
    await client.ask_many(15)
    await client.ask_many(1, BATCH)
    assert client.answers[-1][0] == 429
    await client.ask_many(5)
    assert ingress.inside == 20


@played
async def test_the_bound_grows_with_time(scene: Scene) -> None:
    """Ingresses that were added are found out: each second one more is let through to ask."""
    await scene.client.ask_many(CAPACITY + 1)
    scene.ingress.capacity = 100
    scene.now_s = 2.5
    await scene.client.ask_many(10)
    assert scene.ingress.inside == CAPACITY + 2


@played
async def test_slow_uploads_keep_nobody_out(scene: Scene) -> None:
    """While there is a bound, requests whose body does not come take no place."""
    ingress, client, upload = scene.ingress, scene.client, asyncio.Event()
    await client.ask_many(CAPACITY + 1)
    await ingress.finish(1)
    slow = [client.ask(upload=upload) for _ in range(10 * CAPACITY)]
    await settle()
    await client.ask_many(2)
    assert ingress.inside == CAPACITY
    for task in slow:
        task.cancel()
    await settle()


@played
async def test_a_fault_frees_the_place(scene: Scene) -> None:
    """An application that raises, or that answers before the body is there, leaves no place taken."""
    ingress, client = scene.ingress, scene.client
    broken = await client.ask_many(50, "/broken/remove-background")
    assert all(isinstance(task.exception(), RuntimeError) for task in broken)
    await client.ask_many(CAPACITY + 1)
    await client.ask_many(3)
    assert (ingress.inside, ingress.asked) == (CAPACITY, 50 + CAPACITY + 1)


@played
async def test_only_uploads_are_counted(scene: Scene) -> None:
    """A full endpoint still answers everything else, other applications too."""
    ingress, client = scene.ingress, scene.client
    await client.ask_many(CAPACITY + 1)
    asked = ingress.asked
    for path, method in (("/health", "GET"), (PATH, "OPTIONS"), ("/other/application", "POST")):
        client.ask(path, method)
    await settle()
    assert ingress.asked == asked + 3
    await client.ask_many(1, "/prefix/remove-background")
    assert ingress.asked == asked + 3


@played
async def test_pages_of_other_origins_hear_it_from_the_ingress(scene: Scene) -> None:
    """Only the Ingress knows the headers by which a browser lets another site read a refusal."""
    ingress, client = scene.ingress, scene.client
    await client.ask_many(CAPACITY + 1)
    asked = ingress.asked
    await client.ask_many(1, origin="https://shop.example")
    assert ingress.asked == asked
    await client.ask_many(1, origin="https://elsewhere.example")
    assert ingress.asked == asked + 1
    for nonsense in ("https://[", "null", "://", "https://ü.example"):
        await client.ask_many(1, origin=nonsense)
    assert ingress.asked == asked + 5


@played
async def test_clients_of_remove_bg_hear_it_in_its_shape(scene: Scene) -> None:
    """The drop-in address has errors of its own shape."""
    await scene.client.ask_many(CAPACITY + 1)
    await scene.client.ask_many(1, "/v1.0/removebg")
    status, _, body = scene.client.answers[-1]
    assert status == 429
    assert [entry["title"] for entry in json.loads(body)["errors"]]
