"""Lace, nets and weaves: a pattern of threads and holes on a cloth that bends, over nothing or over something."""

from __future__ import annotations

import cv2
import numpy as np

from cutray.data.synthetic.context import Layer, SceneContext, cast_shadow, draw_light, shade
from cutray.data.synthetic.noise import F32, Real, blur, grid, implicit_coverage, ramp, smooth_noise
from cutray.data.synthetic.solids import draw_solid


def draw_texture(context: SceneContext) -> Layer:
    """Draw a pierced cloth.

    Args:
        context: Where it hangs or lies.

    Returns:
        The cloth, with what it is worn over where there is something, and the background with its shadow.
    """
    rng = context.rng
    cloth, hem = _cut_cloth(context)
    pitch = float(rng.uniform(4, 16)) * max(1.0, min(context.height_px, context.width_px) / 640)
    turn = rng.uniform(0, np.pi)
    rows, columns = grid(context.height_px, context.width_px)
    flow = pitch * rng.uniform(0.5, 3)
    bend = [smooth_noise(rng, context.height_px, context.width_px, pitch * rng.uniform(8, 20)) * flow for _ in range(2)]
    u = (columns * np.cos(turn) + rows * np.sin(turn) + bend[0]) / np.float32(pitch)
    v = (rows * np.cos(turn) - columns * np.sin(turn) + bend[1]) / np.float32(pitch)
    pattern, relief = _lace(context, u, v) if context.family == "train" else _weave(context, u, v, pitch)
    veil = float(rng.choice([0.0, 0.0, 0.12, 0.3]))  # a translucent ground between the threads
    coverage = cloth * np.maximum(np.maximum(pattern, hem), veil)
    thread = context.color((0.0, 0.6), (0.2, 1.0))
    folds = 1 + 0.25 * smooth_noise(rng, context.height_px, context.width_px, pitch * 8, 0.6)
    color = thread * (np.clip(folds, 0.4, 1.5) * (0.75 + 0.35 * relief))[..., None]
    behind = cast_shadow(context, coverage)
    if rng.random() < 0.4:  # worn: the same holes now show something that belongs to the subject
        inner = draw_solid(context)
        skin = shade(inner.normals, context.color((0.2, 0.6), (0.3, 0.9)), draw_light(rng))
        total = 1 - (1 - coverage) * (1 - inner.coverage)
        mixed = coverage[..., None] * color + ((1 - coverage) * inner.coverage)[..., None] * skin
        color = mixed / np.maximum(total, 1e-3)[..., None]
        coverage = total
    return Layer(coverage.astype(np.float32), np.asarray(color, np.float32), behind)


def _cut_cloth(context: SceneContext) -> tuple[F32, F32]:
    """Cut a doily, a curtain, a ribbon or a bag, and return its outline and its closed hem, (H, W) float32 each."""
    rng = context.rng
    size = context.size_px
    row, column = context.row_px, context.column_px
    rows, columns = grid(context.height_px, context.width_px)
    y, x = rows - row, columns - column
    kind = int(rng.integers(4))
    hem_px = size * rng.uniform(0.02, 0.1)
    if kind == 0:  # a round cloth with scallops
        angle = np.arctan2(y, x)
        scallops = 1 + 0.04 * np.abs(np.sin(angle * rng.integers(6, 16)))
        distance = (size * scallops - np.hypot(x, y / rng.uniform(0.6, 1.0))).astype(np.float32)
    elif kind == 1:  # a curtain that hangs in from above
        wave = np.abs(np.sin(columns / size * rng.uniform(4, 9))) * size * 0.08
        lower = row + size * 0.6 + wave - rows
        distance = np.minimum(lower, size * rng.uniform(0.6, 1.1) - np.abs(x)).astype(np.float32)
    elif kind == 2:  # a ribbon across
        turn = rng.uniform(-0.7, 0.7)
        across = y * np.cos(turn) - x * np.sin(turn) + size * 0.15 * np.sin(x / size * 3 + rng.uniform(0, 6))
        distance = (size * rng.uniform(0.25, 0.5) - np.abs(across)).astype(np.float32)
    else:  # a bag or a piece of clothing, narrower at the top
        taper = 0.75 + 0.25 * np.tanh(y / size * 2 + rng.uniform(-0.5, 1))
        sides = size * rng.uniform(0.6, 0.9) * taper - np.abs(x)
        distance = np.minimum(sides, size * 0.95 - np.abs(y + 0 * x)).astype(np.float32)
    outline = ramp(distance)
    return outline, outline * ramp(np.float32(hem_px) - distance)


def _lace(context: SceneContext, u: Real, v: Real) -> tuple[F32, F32]:
    """Pierce by products of waves: nets, dots and flowers. Returns coverage and relief, (H, W) float32 each."""
    rng = context.rng
    two_pi = np.float32(2 * np.pi)
    product = np.sin(two_pi * u) * np.sin(two_pi * v)
    kind = int(rng.integers(3))
    if kind == 0:
        field = np.float32(rng.uniform(0.15, 0.45)) - np.abs(product)
    elif kind == 1:
        field = product - np.float32(rng.uniform(-0.35, 0.25))
    else:
        petals = int(rng.integers(4, 8))
        cell = np.float32(rng.uniform(4, 7))
        across, down = (u % cell) / cell - np.float32(0.5), (v % cell) / cell - np.float32(0.5)
        reach = np.hypot(across, down)
        flower = 0.3 + 0.11 * np.cos(petals * np.arctan2(down, across)) - reach
        net = np.float32(rng.uniform(0.12, 0.25)) - np.abs(product)
        veins = np.abs(reach - 0.2) - 0.03
        field = np.maximum(np.minimum(flower, veins) * 6, net)
    coverage = implicit_coverage(np.asarray(field, np.float32))
    return coverage, np.clip(field / (np.abs(field).mean() * 3 + 1e-3), 0, 1).astype(np.float32)


def _weave(context: SceneContext, u: Real, v: Real, pitch: float) -> tuple[F32, F32]:
    """Weave yarns over and under each other, or knot cells of a net. Returns coverage and relief."""
    rng = context.rng
    if rng.random() < 0.4:
        return _knot(context, u, v, pitch)
    thin = np.float32(rng.uniform(0.12, 0.36))
    uneven = 1 + 0.18 * smooth_noise(rng, context.height_px, context.width_px, pitch * 1.5)
    off_u, off_v = np.abs(u % 1 - np.float32(0.5)), np.abs(v % 1 - np.float32(0.5))
    warp = ramp((thin * uneven - off_u) * np.float32(pitch))
    weft = ramp((thin * uneven - off_v) * np.float32(pitch))
    twill = int(rng.integers(1, 3))
    over = ((np.floor(u) + np.floor(v)) % (twill + 1) < 1).astype(np.float32)
    round_warp, round_weft = 1 - (off_u / thin) ** 2 * 0.8, 1 - (off_v / thin) ** 2 * 0.8
    relief = np.where(over * warp > (1 - over) * weft, round_warp * warp, round_weft * weft)
    return np.maximum(warp, weft), np.clip(relief, 0, 1).astype(np.float32)


def _knot(context: SceneContext, u: Real, v: Real, pitch: float) -> tuple[F32, F32]:
    """Join the borders of irregular cells: crochet, fishing net, cracked mesh."""
    rng = context.rng
    # Seeds on a shaken grid in the cloth's own coordinates, looked up through the bend.
    cells = 48
    centres = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1).reshape(-1, 2) + 0.5
    centres = centres + rng.uniform(-0.38, 0.38, centres.shape)
    fine = 24
    seeds = np.ones((cells * fine, cells * fine), np.uint8)
    place = np.clip((centres * fine).astype(int), 0, cells * fine - 1)
    seeds[place[:, 1], place[:, 0]] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    border = np.ones_like(seeds)
    border[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
    border[1:][labels[1:] != labels[:-1]] = 0
    distance = cv2.distanceTransform(border, cv2.DIST_L2, cv2.DIST_MASK_5) / np.float32(fine)
    where_u, where_v = (u / 1.6 % cells) * fine, (v / 1.6 % cells) * fine
    away = cv2.remap(
        blur(np.asarray(distance, np.float32), 1.0),
        where_u.astype(np.float32),
        where_v.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    half = np.float32(rng.uniform(0.06, 0.2))
    coverage = ramp((half - away) * np.float32(pitch * 1.6))
    return coverage, np.clip(1 - (away / half) ** 2, 0, 1).astype(np.float32)
