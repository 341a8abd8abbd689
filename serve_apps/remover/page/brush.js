// The tools that say what belongs to the subject: a box, and a brush that keeps or drops; with undo, and without a mouse too.

import { drawStroke } from "./edits.js";
import * as viewer from "./viewer.js";

const $ = (id) => document.getElementById(id);
const SHOWN = { keep: "#1fa45acc", drop: "#e0352bcc", box: "#1f5fd0" };
const NEAREST_PX = 3; // of the screen, between two points of a stroke
let photo = null;
let kind = "move";
let drawn = null; // what is under way: a hint that is not finished
let pointer = null; // where the tool is, in pixels of the picture
let byKeys = false; // whether the arrow keys move it
let sent = 0; // hints from this one on have no answer yet
let side = { width: 1, height: 1 };
let whenChanged = () => {};

export function start(listener) {
  whenChanged = listener;
  for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => pick(button.dataset.tool));
  $("undo").addEventListener("click", undo);
  $("redo").addEventListener("click", redo);
  $("width").addEventListener("input", viewer.draw);
  pick("move");
}

export function current() { return kind; }

/** Work on a photo, or on none. */
export function attach(next, width, height) {
  if (photo !== next) drawn = pointer = null;
  photo = next;
  side = { width, height };
  sent = photo?.hints.length ?? 0;
  if (!photo && kind !== "move") pick("move");
  showButtons();
}

export function pick(next) {
  if (next !== "move" && !photo) return;
  kind = next;
  drawn = pointer = null;
  byKeys = false;
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === kind);
  $("stage").dataset.tool = kind;
  $("width-field").hidden = kind !== "keep" && kind !== "drop";
  viewer.setTool(kind === "move" ? null : TOOL);
  whenChanged("tool");
}

function showButtons() {
  for (const button of document.querySelectorAll("[data-tool]")) button.disabled = !photo;
  $("undo").disabled = !photo?.hints.length;
  $("redo").disabled = !photo?.redone.length;
}

function changed() {
  photo.version += 1;
  showButtons();
  whenChanged("hints");
}

export function undo() {
  if (!photo?.hints.length) return;
  photo.redone.push(photo.hints.pop());
  sent = Math.min(sent, photo.hints.length);
  changed();
}

export function redo() {
  if (!photo?.redone.length) return;
  photo.hints.push(photo.redone.pop());
  changed();
}

/** Tell that the first `number` hints are in the picture, so that they need not be drawn over it. */
export function answered(number) {
  sent = number;
  viewer.draw();
}

/** Make the brush larger or smaller. */
export function resize(factor) {
  $("width").value = Math.round(Math.max(Number($("width").min), Math.min(Number($("width").max), $("width").value * factor + Math.sign(factor - 1))));
  viewer.draw();
}

function widthShare() { return (Number($("width").value) / 1000); }

function shareOf({ x, y }) {
  const within = (value, most) => Math.max(0, Math.min(1, value / most));
  return [within(x, side.width), within(y, side.height)];
}

function begin(at) {
  const share = shareOf(at);
  drawn = kind === "box" ? { kind, box: [...share, ...share] } : { kind, points: [share], width: widthShare() };
}

function extend(at) {
  const share = shareOf(at);
  if (kind === "box") {
    drawn.box.splice(2, 2, ...share);
    return;
  }
  const [x, y] = drawn.points.at(-1);
  const step = viewer.toScreen(share[0] * side.width, share[1] * side.height);
  const last = viewer.toScreen(x * side.width, y * side.height);
  if (Math.hypot(step.x - last.x, step.y - last.y) >= NEAREST_PX) drawn.points.push(share);
}

function finish() {
  const hint = drawn;
  drawn = null;
  if (!hint) return;
  if (hint.kind === "box") {
    const [left, top, right, bottom] = hint.box;
    hint.box = [Math.min(left, right), Math.min(top, bottom), Math.max(left, right), Math.max(top, bottom)];
    if (hint.box[2] - hint.box[0] < 0.01 || hint.box[3] - hint.box[1] < 0.01) return viewer.draw(); // a click, not a box
  }
  photo.hints.push(hint);
  photo.redone.length = 0;
  changed();
  if (hint.kind === "box") pick("move");
  return undefined;
}

const TOOL = {
  down: (at) => { byKeys = false; pointer = at; begin(at); viewer.draw(); },
  move: (at, pressed) => {
    byKeys = false;
    pointer = at;
    if (pressed && drawn) extend(at);
    viewer.draw();
  },
  up: finish,
  cancel: () => { drawn = null; viewer.draw(); },
  leave: () => { if (!drawn) { pointer = null; viewer.draw(); } },
  overlay,
};

/** Move the tool by keys, in pixels of the screen; returns whether there is a tool to move. */
export function nudge(x, y) {
  if (kind === "move" || document.activeElement !== $("stage")) return false;
  pointer ??= viewer.centre();
  byKeys = true;
  const from = viewer.toScreen(pointer.x, pointer.y);
  const to = viewer.toPicture(from.x + x, from.y + y);
  const [across, down] = shareOf(to);
  pointer = { x: across * side.width, y: down * side.height };
  viewer.keepInSight(pointer);
  if (drawn) extend(pointer);
  viewer.draw();
  return true;
}

/** Set the tool down where the keys have moved it, or lift it again. */
export function press() {
  if (kind === "move" || document.activeElement !== $("stage")) return false;
  byKeys = true;
  pointer ??= viewer.centre();
  if (drawn) finish();
  else begin(pointer);
  viewer.draw();
  return true;
}

/** Give up what is under way, then the tool; returns whether there was anything. */
export function escape() {
  if (drawn) TOOL.cancel();
  else if (kind !== "move") pick("move");
  else return false;
  return true;
}

function overlay(brush, scale) {
  const open = [...(photo?.hints.slice(sent) ?? []), ...(drawn ? [drawn] : [])];
  for (const hint of open) {
    if (hint.kind !== "box") drawStroke(brush, hint, side.width, side.height, SHOWN[hint.kind]);
    else drawBox(brush, hint.box, scale);
  }
  if (!pointer) return;
  const radius = kind === "box" ? 0 : (widthShare() * Math.max(side.width, side.height)) / 2;
  for (const [color, width] of [["#fff", 3], [SHOWN[kind], 1.5]]) {
    brush.strokeStyle = color;
    brush.lineWidth = width / scale;
    brush.beginPath();
    if (radius) brush.arc(pointer.x, pointer.y, radius, 0, 2 * Math.PI);
    if (!radius || byKeys) {
      const arm = 10 / scale;
      brush.moveTo(pointer.x - arm, pointer.y);
      brush.lineTo(pointer.x + arm, pointer.y);
      brush.moveTo(pointer.x, pointer.y - arm);
      brush.lineTo(pointer.x, pointer.y + arm);
    }
    brush.stroke();
  }
}

function drawBox(brush, [left, top, right, bottom], scale) {
  const place = [left * side.width, top * side.height, (right - left) * side.width, (bottom - top) * side.height];
  brush.fillStyle = "#1f5fd01f";
  brush.fillRect(...place);
  for (const [color, width] of [["#fff", 4], [SHOWN.box, 2]]) {
    brush.strokeStyle = color;
    brush.lineWidth = width / scale;
    brush.strokeRect(...place);
  }
}
