// Shows one picture large: zoom, pan, a line between before and after. Tools take over what a finger or the mouse does.

import { paintChecker } from "./layers.js";

const MOST_ZOOM = 16;
const $ = (id) => document.getElementById(id);
const stage = $("stage");
const canvas = $("view");
const split = $("split");
const brush = canvas.getContext("2d");
const pointers = new Map();
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const view = { scale: 1, x: 0, y: 0, fitted: true };
let picture = null; // {width, height, full (width of the whole picture in pixels), paint(brush), before, clear}
let tool = null; // {down, move, up, cancel, overlay}; without one, dragging moves the picture
let pinch = null;
let planned = 0;
let wipe = 0;

export const whenViewChanges = [];

/** Show a picture, or nothing; `keep` leaves zoom and place as they are. */
export function show(next, keep = false) {
  const same = picture && next && picture.width === next.width && picture.height === next.height;
  picture = next;
  if (!(keep && same)) fit();
  draw();
}

export function setTool(next) {
  tool?.cancel?.();
  tool = next;
  draw();
}

export function isComparing() { return !split.hidden; }

/** Show or hide the line between before and after. */
export function compare(on) {
  cancelAnimationFrame(wipe);
  split.hidden = !on;
  $("handle").hidden = !on;
  draw();
}

/** Draw the line once over the picture, from what it was to what it has become. */
export function reveal() {
  if (calm.matches || isComparing() || !picture?.before) return;
  const begin = performance.now();
  const advance = (now) => {
    const share = Math.min(1, (now - begin) / 700);
    if (!picture?.before || isComparing()) return;
    paintNow(100 * (1 - share) ** 3);
    if (share < 1) wipe = requestAnimationFrame(advance);
  };
  wipe = requestAnimationFrame(advance);
}

/** Draw with the next frame, however often this is called until then. */
export function draw() {
  planned ||= requestAnimationFrame(() => { planned = 0; paintNow(isComparing() ? Number(split.value) : 0); });
}

function paintNow(cut) {
  const ratio = devicePixelRatio;
  const [width, height] = [stage.clientWidth, stage.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  brush.setTransform(1, 0, 0, 1, 0, 0);
  brush.clearRect(0, 0, canvas.width, canvas.height);
  if (!picture) return;
  const line = view.x + (cut / 100) * picture.width * view.scale;
  const top = Math.max(0, view.y);
  $("handle").style.transform = `translate(${Math.max(0, Math.min(width, line))}px, ${top}px)`;
  $("handle").style.height = `${Math.min(height, view.y + picture.height * view.scale) - top}px`;
  if (picture.clear) {
    brush.setTransform(ratio, 0, 0, ratio, view.x * ratio, view.y * ratio);
    paintChecker(brush, picture.width * view.scale, picture.height * view.scale, 10);
  }
  brush.setTransform(view.scale * ratio, 0, 0, view.scale * ratio, view.x * ratio, view.y * ratio);
  brush.imageSmoothingEnabled = view.scale * ratio < 4; // single pixels can be told apart when they are large
  picture.paint(brush);
  if (picture.before && cut > 0) {
    const share = cut / 100;
    brush.drawImage(picture.before, 0, 0, picture.before.width * share, picture.before.height, 0, 0, picture.width * share, picture.height);
  }
  tool?.overlay?.(brush, view.scale);
  whenViewChanges.forEach((listener) => listener((view.scale * ratio * picture.width) / (picture.full ?? picture.width)));
}

/** Where a pixel of the screen lies in the picture. */
export function toPicture(x, y) { return { x: (x - view.x) / view.scale, y: (y - view.y) / view.scale }; }

export function toScreen(x, y) { return { x: x * view.scale + view.x, y: y * view.scale + view.y }; }

/** Where a place in shares of the picture's sides lies on the screen. */
export function shareToScreen(across, down) { return toScreen(across * picture.width, down * picture.height); }

export function centre() { return toPicture(stage.clientWidth / 2, stage.clientHeight / 2); }

function fitScale() {
  const margin = stage.clientWidth > 600 ? 32 : 12;
  const room = (side, length) => (side - 2 * margin) / length;
  return Math.max(0.001, Math.min(room(stage.clientWidth, picture.width), room(stage.clientHeight, picture.height), 4));
}

export function fit() {
  if (!picture?.width) return;
  view.scale = fitScale();
  view.fitted = true;
  place();
}

/** Zoom by a factor; the place under `at` (pixels of the stage) stays where it is. */
export function zoom(factor, at = { x: stage.clientWidth / 2, y: stage.clientHeight / 2 }) {
  if (!picture) return;
  const scale = Math.max(fitScale() / 2, Math.min(MOST_ZOOM, view.scale * factor));
  view.x = at.x - ((at.x - view.x) * scale) / view.scale;
  view.y = at.y - ((at.y - view.y) * scale) / view.scale;
  view.scale = scale;
  view.fitted = false;
  place();
}

/** Show each pixel of the photo as one of the screen. */
export function actualSize(at) { if (picture) zoom((picture.full ?? picture.width) / picture.width / devicePixelRatio / view.scale, at); }

export function pan(x, y) {
  view.x += x;
  view.y += y;
  place();
}

/** Move the picture until a place in it is on the screen. */
export function keepInSight(point) {
  const { x, y } = toScreen(point.x, point.y);
  const beyond = (value, room) => Math.max(0, 24 - value) - Math.max(0, value - room + 24);
  pan(beyond(x, stage.clientWidth), beyond(y, stage.clientHeight));
}

/** Keep the picture in sight: in the middle while it is small, without a gap when it is large. */
function place() {
  if (!picture) return;
  for (const [axis, room, length] of [["x", stage.clientWidth, picture.width], ["y", stage.clientHeight, picture.height]]) {
    const size = length * view.scale;
    const slack = Math.min(64, room / 4);
    view[axis] = size <= room ? (room - size) / 2 : Math.max(room - size - slack, Math.min(slack, view[axis]));
  }
  draw();
}

function at(event) {
  const { left, top } = stage.getBoundingClientRect();
  return { x: event.clientX - left, y: event.clientY - top };
}

function spread() {
  const [a, b] = [...pointers.values()];
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, distance: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
}

function down(event) {
  if (event.button > 1 || !picture) return;
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, at(event));
  if (pointers.size === 2) { // two fingers always zoom, whatever the tool is
    tool?.cancel?.();
    pinch = spread();
  } else if (pointers.size === 1 && event.button === 0) {
    tool?.down?.(toPicture(at(event).x, at(event).y));
  }
}

function move(event) {
  const now = at(event);
  const before = pointers.get(event.pointerId);
  if (before) pointers.set(event.pointerId, now);
  if (pinch && pointers.size === 2) {
    const next = spread();
    pan(next.x - pinch.x, next.y - pinch.y);
    zoom(next.distance / pinch.distance, next);
    pinch = next;
  } else if (tool && !(event.buttons & 4)) {
    tool.move?.(toPicture(now.x, now.y), Boolean(before) && !pinch);
  } else if (before && !pinch) {
    pan(now.x - before.x, now.y - before.y);
  }
}

function up(event) {
  if (!pointers.delete(event.pointerId)) return;
  if (pinch) {
    if (pointers.size === 0) pinch = null;
  } else if (event.type === "pointercancel") tool?.cancel?.();
  else tool?.up?.(toPicture(at(event).x, at(event).y));
}

canvas.addEventListener("pointerdown", down);
canvas.addEventListener("pointermove", move);
for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, up);
canvas.addEventListener("pointerleave", () => tool?.leave?.());
canvas.addEventListener("dblclick", (event) => { if (!tool) (view.fitted ? actualSize(at(event)) : fit()); });
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.shiftKey) pan(-event.deltaY, 0);
  else zoom(Math.exp(-Math.max(-80, Math.min(80, event.deltaY)) * (event.ctrlKey ? 0.02 : 0.004)), at(event));
}, { passive: false });
split.addEventListener("input", draw);
$("handle").addEventListener("pointerdown", (event) => {
  event.preventDefault();
  split.focus({ preventScroll: true });
  $("handle").setPointerCapture(event.pointerId);
});
$("handle").addEventListener("pointermove", (event) => {
  if (!$("handle").hasPointerCapture(event.pointerId) || !picture) return;
  split.value = Math.max(0, Math.min(100, (100 * toPicture(at(event).x, 0).x) / picture.width));
  draw();
});
new ResizeObserver(() => (view.fitted ? fit() : place())).observe(stage);
dark.addEventListener("change", draw);
