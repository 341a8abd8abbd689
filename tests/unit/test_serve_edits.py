"""What a Cutter keeps of edits: how much, how long, whose, and that one change is made at a time."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")

from cutray.config import RemoverSettings, parse_settings
from cutray.edit import Edit
from cutray.engines.base import EngineInfo
from cutray.hints import Hints
from cutray.imaging.encode import encode_image
from cutray.matting.matte import Matte
from cutray.matting.objects import FoundObject
from cutray.removal import RemovalReport
from cutray.segmenter import NetworkInfo
from cutray.sources import decode_source
from cutray.tta import Prediction
from serve_apps.remover.edit_desk import EditDesk
from serve_apps.remover.edit_routes import edit_headers
from serve_apps.remover.edits import EditGoneError, EditRoomError, EditStore, KeptEdit, shown_alpha
from serve_apps.remover.schemas import CutRequest, EditReply, Limits

NETWORK = NetworkInfo("u2netp", EngineInfo("pytorch", "cpu", "fp32"))
SEEN = Prediction(np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1)), 32, 1)


def kept_edit(owner: str, side: int = 20, channels: int = 3, dtype: type = np.uint8) -> KeptEdit:
    """Return an edit of a photo of this size, which has no encoded data."""
    settings = parse_settings(RemoverSettings, {"quality": "fast", "bit_depth": 16 if dtype is np.uint16 else 8})
    photo = decode_source(np.full((side, side, channels), 100, dtype), settings)
    hints, edit = Hints(side, side), Edit(photo.flattened, settings)
    edit.add(hints, SEEN)
    matte = edit.matte(hints)
    return KeptEdit(owner, b"", photo, settings, edit, NETWORK, 1, matte, shown_alpha(matte, photo, settings))


def test_memory_is_counted_as_it_is() -> None:
    """Transparency and 16 bits are counted, too."""
    assert kept_edit("shop").size_bytes == 20 * 20 * 8
    assert kept_edit("shop", channels=4).size_bytes == 20 * 20 * (8 + 4)
    assert kept_edit("shop", dtype=np.uint16).size_bytes == 20 * 20 * (8 + 6)


def test_nothing_is_given_up_for_an_edit_that_finds_no_room() -> None:
    """Where the edits of others leave no room, the owner's own ones stay."""
    store = EditStore("r", Limits(max_edit_bytes=3 * 20 * 20 * 8), later=lambda *_: None)
    store.put(kept_edit("other"))
    own = store.put(kept_edit("shop"))
    with pytest.raises(EditRoomError):
        store.put(kept_edit("shop", side=40))
    assert store.get(own, "shop").owner == "shop"
    store.put(kept_edit("shop", side=28))
    with pytest.raises(EditGoneError):
        store.get(own, "shop")


def test_an_edit_that_was_used_goes_in_time() -> None:
    """It is given up `edit_ttl_s` after its last use, although no other request comes."""
    now, timers = [0.0], list[tuple[float, Callable[[], None]]]()
    store = EditStore(
        "r",
        Limits(edit_ttl_s=600),
        clock=lambda: now[0],
        later=lambda delay_s, work: timers.append((now[0] + delay_s, work)),
    )
    edit_id = store.put(kept_edit("shop"))
    now[0] = 500.0
    store.get(edit_id, "shop")
    left = []
    for due, work in sorted(timers, key=lambda timer: timer[0]):
        now[0] = due
        work()
        left.append(len(store))
    assert left == [1, 0]
    assert now[0] < 1110


def test_a_change_that_is_given_up_keeps_the_edit_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread cannot be stopped: the next request waits until it is done, so that two never work on one edit."""
    entered, release, at_work, most = threading.Event(), threading.Event(), [0], [0]
    compute = Edit.matte

    def slow(edit: Edit, hints: Hints) -> Matte:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        entered.set()
        assert release.wait(120)
        try:
            return compute(edit, hints)
        finally:
            at_work[0] -= 1

    async def predict(_image: np.ndarray, _settings: RemoverSettings, _model: str) -> tuple[Prediction, NetworkInfo]:
        return SEEN, NETWORK

    async def scenario() -> EditReply:
        desk = EditDesk("r", Limits(), predict)
        settings = parse_settings(RemoverSettings, {"quality": "fast"})
        photo = CutRequest(encode_image(np.full((20, 30, 3), 90, np.uint8), "PNG"), {}, owner="shop")
        opened: Any = await desk.handle("open", photo, settings, None)
        monkeypatch.setattr(Edit, "matte", slow)
        marked = CutRequest(b"", {}, owner="shop", edit_id=opened.edit_id)
        first, second = (
            asyncio.create_task(
                desk.handle("mark", marked, settings.model_copy(update={"keep": point, "drop": None}), None)
            )
            for point in ("2,2", "4,4")
        )
        assert await asyncio.to_thread(entered.wait, 120)
        over = set[asyncio.Task[Any]]()
        for _ in range(2):  # by the deadline, and by a client that leaves as well
            first.cancel()
            over |= (await asyncio.wait([first], timeout=0.1))[0]
        release.set()
        assert not over
        with pytest.raises(asyncio.CancelledError):
            await first
        reply: Any = await second
        return reply

    reply = asyncio.run(scenario())
    assert most[0] == 1
    assert reply.revision == 2


def test_the_picture_may_leave_out_the_shadow_that_the_edit_began_with() -> None:
    """What belongs to the shadow goes with it, so that ``shadow=none`` says enough."""

    async def predict(_image: np.ndarray, _settings: RemoverSettings, _model: str) -> tuple[Prediction, NetworkInfo]:
        return SEEN, NETWORK

    async def picture(begun: dict[str, object], options: dict[str, object]) -> bytes:
        desk = EditDesk("r", Limits(), predict)
        settings = parse_settings(RemoverSettings, {"quality": "fast", **begun})
        photo = CutRequest(encode_image(np.full((20, 30, 3), 90, np.uint8), "PNG"), {}, owner="shop")
        opened: Any = await desk.handle("open", photo, settings, None)
        wanted = CutRequest(b"", options, owner="shop", edit_id=opened.edit_id)
        reply: Any = await desk.handle("result", wanted, settings, None)
        return bytes(reply.data)

    shadow: dict[str, object] = {"shadow": "drop", "shadow_strength": 0.6}
    plain = asyncio.run(picture({}, {}))
    assert asyncio.run(picture(shadow, {})) != plain
    assert asyncio.run(picture(shadow, {"shadow": "none"})) == plain


def test_the_report_fits_into_a_header() -> None:
    """A hundred subjects are told by their largest."""
    objects = tuple(FoundObject((5000, 5000, 5000 + n, 5001), 1 / (3 + n)) for n in range(100))
    report = RemovalReport(True, 0.9, 1 / 3, 6000, 6000, (0, 0, 6000, 6000), "u2net", "x", objects=objects)
    text = edit_headers(EditReply("r.1", 1, (0, 0, 5, 5), report))["X-Report"]
    assert len(text) < 4096
    told = json.loads(text)
    assert len(told["objects"]) == 20
    assert told["objects"][0] == {"box": [5000, 5000, 5000, 5001], "area_fraction": 0.33333}
