// The strip of thumbnails.

import { load } from "./cutout.js";
import { paintBackground, paintChecker, release } from "./layers.js";
import { isClear, look } from "./look.js";
import * as list from "./photos.js";

const SIDE_PX = 144;
const $ = (id) => document.getElementById(id);
const cards = new Map(); // photo → its element
const small = new Map(); // photo → its layers in the size of a thumbnail
const shapes = new WeakMap(); // photo → promise of its width by its height
const STATES = { waiting: "waiting", sending: "being sent", working: "being cut out", busy: "waiting for the server", done: "done", failed: "not possible" };

function make(photo) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  card.querySelector(".thumb").addEventListener("click", () => list.choose(photo));
  card.querySelector(".remove").addEventListener("click", () => {
    const next = card.nextElementSibling ?? card.previousElementSibling;
    list.remove(photo);
    (next?.querySelector(".thumb") ?? $("pick")).focus();
  });
  card.querySelector(".remove").setAttribute("aria-label", `Remove ${photo.name}`);
  cards.set(photo, card);
  mark(photo);
  shapes.set(photo, picture(photo).then(() => small.get(photo)?.before).then((before) => (before ? before.width / before.height : null)));
  return card;
}

/** Return width by height of a photo as this browser shows it, or null if it cannot. */
export function shapeOf(photo) { return shapes.get(photo); }

function mark(photo) {
  const card = cards.get(photo);
  if (!card) return;
  card.className = photo.state;
  const button = card.querySelector(".thumb");
  button.setAttribute("aria-label", `${photo.name}, ${STATES[photo.state]}`);
  button.title = photo.name;
  button.setAttribute("aria-current", photo === list.currentPhoto());
}

/** Load what a thumbnail shows, small, and let go of the rest. */
export async function picture(photo) {
  const layers = await load(photo, SIDE_PX * SIDE_PX);
  if (!cards.has(photo)) return release(layers.before, layers.cutout);
  release(small.get(photo)?.before, small.get(photo)?.cutout);
  small.set(photo, layers);
  return paint(photo);
}

/** Show a corrected cutout, from the large picture. */
export function update(photo, cutout) {
  const own = small.get(photo)?.cutout;
  if (!own) return;
  const brush = own.getContext("2d");
  brush.clearRect(0, 0, own.width, own.height);
  brush.imageSmoothingQuality = "high";
  brush.drawImage(cutout, 0, 0, own.width, own.height);
  paint(photo);
}

function paint(photo) {
  const layers = small.get(photo);
  const canvas = cards.get(photo).querySelector("canvas");
  if (!layers?.width) return;
  canvas.width = SIDE_PX;
  canvas.height = SIDE_PX;
  const brush = canvas.getContext("2d");
  const scale = Math.min(SIDE_PX / layers.width, SIDE_PX / layers.height);
  brush.translate((SIDE_PX - layers.width * scale) / 2, (SIDE_PX - layers.height * scale) / 2);
  if (layers.cutout && isClear()) paintChecker(brush, layers.width * scale, layers.height * scale, 12);
  brush.scale(scale, scale);
  if (layers.cutout) paintBackground(brush, layers.width, layers.height, look, layers.before);
  brush.drawImage(layers.cutout ?? layers.before, 0, 0);
}

export function repaint() { [...small.keys()].forEach(paint); }

function sort() {
  const wanted = list.photos.map((photo) => cards.get(photo) ?? make(photo));
  if (wanted.some((card, index) => $("photos").children[index] !== card) || $("photos").children.length !== wanted.length) $("photos").replaceChildren(...wanted);
  $("more").hidden = list.photos.length >= list.MOST;
}

function forget(photo) {
  cards.delete(photo);
  const layers = small.get(photo);
  if (layers) release(layers.before, layers.cutout);
  small.delete(photo);
}

list.events.addEventListener("list", sort);
list.events.addEventListener("removed", ({ detail: photo }) => forget(photo));
list.events.addEventListener("current", () => {
  list.photos.forEach(mark);
  cards.get(list.currentPhoto())?.scrollIntoView({ block: "nearest", inline: "nearest" });
});
list.events.addEventListener("state", ({ detail: photo }) => {
  mark(photo);
  if (photo.state === "done") picture(photo);
});
$("photos").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) {
    list.step(by);
    cards.get(list.currentPhoto()).querySelector(".thumb").focus();
  } else if (event.key === "Delete" || event.key === "Backspace") {
    event.target.closest("li").querySelector(".remove").click();
  } else return;
  event.preventDefault();
  event.stopPropagation();
});
