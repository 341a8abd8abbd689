"""Hair, fur and bristles as thousands of tapered strands; plants and feathers for the held-out family."""

from __future__ import annotations

import numpy as np

from cutray.data.synthetic.canvas import FineCanvas
from cutray.data.synthetic.context import Layer, SceneContext, cast_shadow
from cutray.data.synthetic.noise import F32, grid

_POINTS = 7


def draw_fine_detail(context: SceneContext) -> Layer:
    """Draw something whose outline dissolves into strands.

    Args:
        context: Where it stands.

    Returns:
        The subject, and the background with its shadow.
    """
    makers = (_fur, _fur, _hair, _hair, _brush) if context.family == "train" else (_curls, _curls, _plant, _feather)
    canvas = FineCanvas(context.height_px, context.width_px)
    size, row, column = context.size_px, context.row_px, context.column_px
    makers[int(context.rng.integers(len(makers)))](context, canvas, (column, row), size)
    coverage, color = canvas.render()
    lamp = context.rng.uniform(-0.5, 0.5, 2)
    rows, columns = grid(context.height_px, context.width_px)
    light = 1 + lamp[0] * (columns - column) / (2 * size) - abs(lamp[1]) * (rows - row) / (1.5 * size)
    color = color * np.clip(light, 0.3, 1.6)[..., None].astype(np.float32)
    return Layer(coverage, color, cast_shadow(context, coverage))


def _tones(context: SceneContext) -> tuple[F32, F32, F32]:
    """Draw the dark, the middle and the bright color of hair or fur, linear light."""
    base = context.color((0.05, 0.55), (0.12, 0.95))
    if context.rng.random() < 0.7:  # natural hair is a warm grey at any lightness
        warm = np.array([1.0, 0.72, 0.48], np.float32) ** np.float32(context.rng.uniform(0.1, 1.2))
        base = np.float32(base.mean()) * warm + 0.25 * base * float(context.difficulty > 0.5)
    return base * np.float32(0.35), base * np.float32(0.7), np.clip(base * np.float32(1.5) + 0.01, 0, 0.95)


def _outline(context: SceneContext, size: float, roughness: float = 0.12) -> tuple[F32, F32]:
    """Draw a wavy closed outline around the origin: (n,) angles and (n,) radii, float32."""
    angle = np.linspace(0, 2 * np.pi, 160, endpoint=False, dtype=np.float32)
    radius = np.ones_like(angle)
    for wave in range(2, 6):
        radius += np.float32(context.rng.normal(0, roughness / wave * 2)) * np.cos(
            wave * angle + np.float32(context.rng.uniform(0, 6.28))
        )
    return angle, radius * np.float32(size)


def _grow(
    context: SceneContext, roots: F32, heading: F32, length: F32, *, fall: float, bend: float, points: int = _POINTS
) -> F32:
    """Grow strands as smooth curves: roots (n, 2), unit headings (n, 2), lengths (n,) → (n, k, 2) float32."""
    rng = context.rng
    along = np.linspace(0, 1, points, dtype=np.float32)[None, :, None]
    aside = np.stack([-heading[:, 1], heading[:, 0]], -1)[:, None]
    sway = rng.normal(0, bend, (len(roots), 1, 1)).astype(np.float32)
    twist = rng.normal(0, bend * 0.5, (len(roots), 1, 1)).astype(np.float32)
    shape = heading[:, None] * along + aside * (sway * along**2 + twist * along**3)
    shape = shape + np.array([0, fall], np.float32) * along**2
    return np.asarray(roots[:, None] + shape * length[:, None, None], np.float32)


def _tufted(context: SceneContext, amount: int, tufts: int, spread: float) -> F32:
    """Draw directions' deviations that neighbours share, (n,) float32: fur grows in tufts."""
    rng = context.rng
    shared = rng.normal(0, spread, tufts)
    place = np.sort(rng.integers(0, tufts, amount))
    return np.asarray(shared[place] + rng.normal(0, spread * 0.35, amount), np.float32)


def _fur(context: SceneContext, canvas: FineCanvas, centre: tuple[float, float], size: float) -> None:
    """Cover a rounded body with short fur that stands off its outline."""
    rng = context.rng
    dark, middle, bright = _tones(context)
    angle, radius = _outline(context, size * 0.8)
    outline = np.stack([np.cos(angle), np.sin(angle)], -1) * radius[:, None] + np.array(centre, np.float32)
    canvas.fill(outline.astype(np.float32), middle)
    hair = size * rng.uniform(0.1, 0.32)
    flow, fall, bend = rng.uniform(-1, 1), rng.uniform(0.0, 0.7), rng.uniform(0.08, 0.35)
    width = float(np.clip(size / 320 * rng.uniform(0.5, 1.6), 0.45, 1.5))
    inner, rim = int(900 + 1100 * rng.random()), int(1100 + 1400 * rng.random())
    for amount, near, far in ((inner, 0.0, 0.95), (rim, 0.9, 1.0)):
        where = np.sort(rng.random(amount) * 2 * np.pi)
        share = np.sqrt(rng.uniform(near**2, far**2, amount))
        reach = np.interp(where, angle, radius, period=2 * np.pi) * share
        roots = np.stack([np.cos(where), np.sin(where)], -1) * reach[:, None] + centre
        aim = where + flow * 0.8 + _tufted(context, amount, 70, 0.35)
        heading = np.stack([np.cos(aim), np.sin(aim)], -1).astype(np.float32)
        length = (hair * rng.uniform(0.35, 1.15, amount)).astype(np.float32)
        paths = _grow(context, roots.astype(np.float32), heading, length, fall=fall, bend=bend)
        order = np.argsort(-share + rng.normal(0, 0.08, amount)) if far < 1 else rng.permutation(amount)
        tone = np.clip(rng.normal(0.5, 0.25, amount), 0, 1).astype(np.float32)
        canvas.strands(paths[order], tone, dark, bright, width)
    if rng.random() < 0.5:  # eyes, so that it is somebody
        for side in (-0.28, 0.28):
            eye = np.array(centre) + np.array([side, -0.15]) * size
            ring = np.linspace(0, 2 * np.pi, 24)
            canvas.fill(
                (eye + np.stack([np.cos(ring), np.sin(ring)], -1) * size * 0.07).astype(np.float32),
                dark * np.float32(0.1),
            )


def _hair(context: SceneContext, canvas: FineCanvas, centre: tuple[float, float], size: float) -> None:
    """Draw a person from behind: shoulders, a head, long hair, and single hairs that fly."""
    rng = context.rng
    dark, middle, bright = _tones(context)
    ring = np.linspace(0, 2 * np.pi, 90, dtype=np.float32)
    head = np.array([centre[0], centre[1] - 0.35 * size], np.float32)
    shirt, skin = context.color(), np.float32(rng.uniform(0.15, 0.6)) * np.array([1.0, 0.7, 0.52], np.float32)
    below = (context.height_px - head[1]) / size + 0.1  # a portrait goes on below the picture
    for part, half in enumerate(np.linspace(1.0, 0.3, 7)):  # shoulders, lighter towards their middle
        slope = np.linspace(-1, 1, 40)
        top = np.stack(
            [slope * (0.5 + 0.5 * half), 1.25 - 0.55 * half * np.sqrt(1 - slope**4) * (1 - 0.2 * slope**2)], -1
        )
        corners = np.array([(0.5 + 0.5 * half, max(below, 1.6)), (-0.5 - 0.5 * half, max(below, 1.6))])
        torso = np.concatenate([top, corners]) * size + head
        canvas.fill(torso, shirt * np.float32(0.7 + 0.05 * part))
    neck = np.array([(-0.17, 0.2), (0.17, 0.2), (0.22, 0.75), (-0.22, 0.75)], np.float32) * np.float32(size) + head
    canvas.fill(neck, skin)
    scalp = np.array([0.4, 0.5], np.float32) * np.float32(size)
    canvas.fill((np.stack([np.cos(ring), np.sin(ring)], -1) * scalp + head).astype(np.float32), middle)
    amount = int(1600 + 1200 * rng.random())
    # From behind, hair covers all of the head: roots everywhere, the upper over the lower.
    around = rng.uniform(0, 2 * np.pi, amount)
    shift = np.sqrt(rng.random(amount))
    around = around[np.argsort(-np.sin(around) * shift)]
    roots = head + np.stack([np.cos(around), np.sin(around)], -1) * scalp * shift[:, None]
    side = np.cos(around) * shift
    length = size * rng.uniform(0.6, 1.4) * rng.uniform(0.8, 1.1, amount)
    lock = _tufted(context, amount, 60, 0.08)[np.argsort(np.argsort(side))]
    heading = np.stack([side * rng.uniform(0.15, 0.6) + rng.normal(0, 0.1) + lock, np.full(amount, 0.15)], -1)
    heading[:, 1] -= 0.35 * (np.sin(around) < 0) * shift
    fall, bend = rng.uniform(0.7, 1.0), rng.uniform(0.04, 0.2)
    paths = _grow(
        context,
        roots.astype(np.float32),
        heading.astype(np.float32),
        length.astype(np.float32),
        fall=fall,
        bend=bend,
        points=12,
    )
    width = float(np.clip(size / 320 * rng.uniform(0.6, 1.4), 0.5, 1.4))
    tone = np.clip(0.45 + 0.3 * np.sin(9 * side) + rng.normal(0, 0.18, amount), 0, 1).astype(np.float32)
    canvas.strands(paths, tone, dark, bright, width)
    flying = int(rng.integers(60, 320))
    start = rng.normal(-np.pi / 2, 1.2, flying)
    roots = head + np.stack([np.cos(start), np.sin(start)], -1) * scalp * 0.95
    heading = np.stack([np.cos(start), np.sin(start)], -1).astype(np.float32)
    long = (size * rng.uniform(0.15, 0.8, flying)).astype(np.float32)
    paths = _grow(context, roots.astype(np.float32), heading, long, fall=0.5, bend=0.5, points=12)
    canvas.strands(paths, rng.random(flying).astype(np.float32), dark, bright, width * 0.6)


def _brush(context: SceneContext, canvas: FineCanvas, centre: tuple[float, float], size: float) -> None:
    """Draw a brush or a broom: a handle, a clamp, bristles."""
    rng = context.rng
    dark, _, bright = _tones(context)
    turn = rng.uniform(0, 2 * np.pi)
    ahead = np.array([np.cos(turn), np.sin(turn)], np.float32)
    aside = np.array([-ahead[1], ahead[0]], np.float32)
    middle_px = np.array(centre, np.float32)
    wide, thick = size * rng.uniform(0.15, 0.45), size * rng.uniform(0.05, 0.11)

    def slab(start: float, end: float, half: float, color: F32) -> None:
        corners = [(start, -half), (start, half), (end, half), (end, -half)]
        canvas.fill(np.array([middle_px + ahead * a * size + aside * b for a, b in corners], np.float32), color)

    slab(-1.15, -0.05, thick, context.color())
    amount = int(700 + 900 * rng.random())
    offset = rng.uniform(-1, 1, amount)
    roots = middle_px + aside * (offset * wide)[:, None] + ahead * size * 0.1
    fan = offset * rng.uniform(0.05, 0.45) + rng.normal(0, 0.05, amount)
    heading = (ahead + aside * fan[:, None]).astype(np.float32)
    length = (size * rng.uniform(0.55, 0.95) * rng.uniform(0.8, 1.05, amount)).astype(np.float32)
    paths = _grow(context, roots.astype(np.float32), heading, length, fall=rng.uniform(0, 0.1), bend=0.1)
    width = float(np.clip(size / 260 * rng.uniform(0.6, 1.5), 0.5, 1.6))
    canvas.strands(paths, rng.random(amount).astype(np.float32), dark, bright, width)
    slab(-0.1, 0.18, float(wide * 1.05), context.color((0, 0.4), (0.3, 0.9)))


def _curls(context: SceneContext, canvas: FineCanvas, centre: tuple[float, float], size: float) -> None:
    """Simulate curled hair: each tip moves on while its heading turns, gravity pulls, and the air whirls."""
    rng = context.rng
    dark, middle, bright = _tones(context)
    head = np.array(centre, np.float32)
    ring = np.linspace(0, 2 * np.pi, 80, dtype=np.float32)
    canvas.fill((np.stack([np.cos(ring), np.sin(ring) * 1.1], -1) * size * 0.55 + head).astype(np.float32), middle)
    amount, steps = int(rng.integers(700, 1500)), 26
    start = rng.uniform(0, 2 * np.pi, amount)
    place = head + np.stack([np.cos(start), np.sin(start) * 1.1], -1) * size * 0.52 * np.sqrt(
        rng.uniform(0.3, 1, (amount, 1))
    )
    heading = start + rng.normal(0, 0.4, amount)
    lock = rng.integers(0, 90, amount)
    curl = rng.normal(0, 1, 90)[lock] * rng.uniform(0.15, 0.55) + rng.normal(0, 0.06, amount)
    phase = rng.uniform(0, 6.28, 90)[lock]
    stride = size * rng.uniform(0.5, 1.0) / steps * rng.uniform(0.6, 1.1, amount)
    whirl = rng.normal(0, 1, (3, 2)) * 3 / size
    trail = [place.copy()]
    for step in range(steps):
        air = np.sin(place @ whirl.T + np.arange(3)).sum(axis=1) * 0.12
        heading = heading + curl * np.sin(phase + step * 0.55) + air
        pull = np.stack([np.cos(heading), np.sin(heading) + 0.35 * step / steps], -1)
        place = place + pull * stride[:, None]
        trail.append(place.copy())
    paths = np.stack(trail, axis=1).astype(np.float32)
    width = float(np.clip(size / 300 * rng.uniform(0.5, 1.3), 0.45, 1.3))
    tone = np.clip(rng.normal(0.5, 0.2, 90)[lock] + rng.normal(0, 0.12, amount), 0, 1).astype(np.float32)
    canvas.strands(paths, tone, dark, bright, width)


def _plant(context: SceneContext, canvas: FineCanvas, centre: tuple[float, float], size: float) -> None:
    """Let a dry plant branch and branch again, out of a pot."""
    rng = context.rng
    dark, _, bright = _tones(context)
    foot = np.array([centre[0], centre[1] + 0.45 * size], np.float32)
    tips = np.repeat(foot[None], int(rng.integers(7, 16)), axis=0)
    heading = -np.pi / 2 + rng.normal(0, 0.45, len(tips))
    reach, width = size * rng.uniform(0.35, 0.5), max(1.2, size / 90)
    for _ in range(5):
        along = np.linspace(0, 1, 5)[None, :, None]
        ahead = np.stack([np.cos(heading), np.sin(heading)], -1)[:, None]
        sway = np.stack([-ahead[..., 1], ahead[..., 0]], -1) * rng.normal(0, 0.2, (len(tips), 1, 1))
        paths = tips[:, None] + reach * (ahead * along + sway * along**2)
        tone = rng.random(len(tips)).astype(np.float32)
        canvas.strands(paths.astype(np.float32), tone, dark, bright, float(np.clip(width, 0.35, 6)))
        children = 2 if len(tips) > 300 else 3
        tips = np.repeat(paths[:, -1], children, axis=0)
        heading = np.repeat(heading, children) + rng.normal(0, 0.5, len(tips))
        reach, width = reach * rng.uniform(0.45, 0.62), width * 0.55
    ring = np.linspace(0, 2 * np.pi, 12)
    for tip in tips[:260]:
        leaf = np.stack([np.cos(ring), np.sin(ring) * 0.6], -1) * size * rng.uniform(0.006, 0.018)
        canvas.fill((tip + leaf).astype(np.float32), dark + (bright - dark) * np.float32(rng.random()))
    top, bottom = size * rng.uniform(0.2, 0.35), size * rng.uniform(0.15, 0.25)
    pot = [(-top, -0.05 * size), (top, -0.05 * size), (bottom, 0.55 * size), (-bottom, 0.55 * size)]
    canvas.fill((np.array(pot) + foot).astype(np.float32), context.color())


def _feather(context: SceneContext, canvas: FineCanvas, centre: tuple[float, float], size: float) -> None:
    """Draw feathers: a bent shaft with barbs that part here and there."""
    rng = context.rng
    for _ in range(int(rng.integers(1, 4))):
        dark, _, bright = _tones(context)
        turn = rng.uniform(0, 2 * np.pi)
        ahead = np.array([np.cos(turn), np.sin(turn)])
        aside = np.array([-ahead[1], ahead[0]])
        at = np.linspace(0, 1, 500)
        shaft = np.array(centre) + np.outer(at * 2 - 1, ahead) * size + np.outer((at * 2 - 1) ** 2, aside) * size * 0.2
        vane = size * rng.uniform(0.16, 0.34) * np.sin(np.pi * np.clip(at * 1.1 - 0.1, 0, 1)) ** 0.6
        parted = np.cumsum(rng.random(500) < 0.02) * 2.4
        for side in (-1, 1):
            lean = 0.9 + 0.25 * np.sin(parted) + rng.normal(0, 0.05, 500)
            heading = ahead * np.cos(lean)[:, None] + side * aside * np.sin(lean)[:, None]
            length = vane * rng.uniform(0.85, 1.05, 500)
            paths = _grow(
                context,
                shaft.astype(np.float32),
                heading.astype(np.float32),
                length.astype(np.float32),
                fall=0.0,
                bend=0.12,
            )
            tone = np.clip(0.5 + 0.4 * np.sin(at * 14) + rng.normal(0, 0.12, 500), 0, 1).astype(np.float32)
            canvas.strands(paths, tone, dark, bright, float(np.clip(size / 240, 0.45, 1.4)))
        canvas.line(shaft.astype(np.float32), bright, max(0.8, size / 110))
