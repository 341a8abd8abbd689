// The studio: joins the list of photos, the large picture, the tools and what is saved.

import { load, paintBackground, release } from "./layers.js";
import * as keys from "./keys.js";
import * as list from "./photos.js";
import * as look from "./look.js";
import * as saving from "./save.js";
import * as server from "./server.js";
import * as strip from "./strip.js";
import * as viewer from "./viewer.js";

const $ = (id) => document.getElementById(id);
let layers = null; // of the photo that is shown
let told = ""; // what the line at the top says beside the count

async function cut(photo, calls) {
  const answer = await server.ask("POST", "remove-background", { ...calls, form: () => saving.formOf(photo, { format: "png" }) });
  photo.cutout = answer.blob;
  if (answer.header("X-Subject-Found") === "false") photo.note = "No subject was found in this photo.";
  else if (photo.seeThrough && /see_through/.test(answer.header("X-Notes"))) photo.note = "The background is too busy to tell what is clear.";
}

/** Show the current photo as far as it has come. */
async function showCurrent({ keep = false, fresh = false } = {}) {
  const photo = list.currentPhoto();
  if (!photo) {
    viewer.show(null);
    release(layers?.before, layers?.cutout);
    layers = null;
    return;
  }
  const next = await load(photo);
  if (photo !== list.currentPhoto()) return release(next.before, next.cutout);
  release(layers?.before, layers?.cutout);
  layers = next;
  viewer.show(pictureOf(next), keep);
  if (fresh && next.cutout) viewer.reveal();
  $("compare").disabled = !(next.before && next.cutout);
  if ($("compare").disabled) compare(false);
}

function pictureOf({ before, cutout, width, height }) {
  if (!width) return null;
  const paint = (brush) => {
    if (cutout) paintBackground(brush, width, height, look.look, before);
    brush.drawImage(cutout ?? before, 0, 0);
  };
  return { width, height, before: cutout ? before : null, clear: Boolean(cutout) && look.isClear(), paint };
}

function repaint() {
  if (layers) viewer.show(pictureOf(layers), true);
  strip.repaint();
}

const CHIPS = { waiting: () => "Waiting", working: () => "Cutting out", sending: (photo) => `Sending ${Math.round(100 * photo.share)} %`, busy: (photo) => photo.message };

/** Say how the current photo stands, over the large picture. */
function showState() {
  const photo = list.currentPhoto();
  const chip = photo && CHIPS[photo.state]?.(photo);
  $("chip").hidden = !chip;
  $("chip-text").textContent = chip ?? "";
  $("desk").dataset.state = photo?.state ?? "";
  $("message").hidden = photo?.state !== "failed";
  $("message").querySelector("p").textContent = photo?.state === "failed" ? photo.message : "";
  $("note").hidden = !photo?.note;
  $("note").textContent = photo?.note ?? "";
  $("stage").setAttribute("aria-label", photo ? `${photo.name}, ${photo.state === "done" ? "cut out" : photo.state}` : "Photo");
  for (const id of ["save", "copy"]) $(id).disabled = photo?.state !== "done";
  $("glass").disabled = !photo || !list.isOver(photo);
  $("glass").setAttribute("aria-pressed", Boolean(photo?.seeThrough));
  count();
}

function count() {
  const [done, failed] = ["done", "failed"].map((state) => list.photos.filter((photo) => photo.state === state).length);
  $("all").disabled = done === 0;
  $("all").hidden = list.photos.length < 2;
  const all = list.photos.length;
  const parts = all ? [done === all && all > 1 ? `All ${all} photos done` : `${done} of ${all} done`] : [];
  if (failed) parts.push(`${failed} not possible`);
  $("status").textContent = told || parts.join(", ");
}

/** Say something at the top for a while. */
function say(text) {
  told = text;
  count();
  setTimeout(() => { if (told === text) { told = ""; count(); } }, 8000);
}

function namesOf(files) { return files.slice(0, 5).map((file) => file.name).join(", ") + (files.length > 5 ? " …" : ""); }

/** Show what has no place yet, and what is no photo; it stays until somebody answers it. */
function tellLeft() {
  const { over, refused } = list.left;
  const parts = [];
  if (refused.length) parts.push(`Not taken, because this server cannot read ${refused.length > 1 ? "them" : "it"}: ${namesOf(refused)}.`);
  if (over.length) parts.push(`${over.length} ${over.length > 1 ? "photos wait" : "photo waits"}, because ${list.MOST} fit at a time: ${namesOf(over)}.`);
  $("left").hidden = parts.length === 0;
  $("left").querySelector("p").textContent = parts.join(" ");
  $("next").hidden = over.length === 0;
  const full = list.photos.length === list.MOST;
  $("next").textContent = full ? "Remove the finished ones and add them" : "Add them";
  $("next").disabled = full && !list.photos.some(list.isOver);
  $("forget").textContent = over.length ? "Leave them out" : "All right";
  document.body.classList.toggle("working", list.photos.length > 0);
  $("work").hidden = list.photos.length === 0;
}

function compare(on = !viewer.isComparing()) {
  viewer.compare(on && !$("compare").disabled);
  $("compare").setAttribute("aria-pressed", viewer.isComparing());
}

/** Do what takes a while: its button says so, and an error is told where the state is. */
async function during(button, work) {
  if (button.disabled) return;
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    say(error.message);
  } finally {
    button.removeAttribute("aria-busy");
    button.disabled = false;
    showState();
  }
}

function saveOne() {
  const busy = (seconds) => say(`The server is busy. Next try in ${seconds} s.`);
  return during($("save"), () => saving.saveOne(list.currentPhoto(), { busy }));
}

function saveAll() {
  return during($("all"), async () => {
    const done = list.photos.filter((photo) => photo.state === "done");
    const missing = await saving.saveAll(done, (nth, all) => say(`Preparing ${nth} of ${all}`));
    say(missing.length ? `Not in the file, try again: ${missing.join(", ")}` : `${done.length} pictures saved`);
  });
}

function copy() {
  return during($("copy"), async () => {
    await saving.copy(list.currentPhoto());
    say("Copied");
  });
}

function toggleGlass() {
  const photo = list.currentPhoto();
  photo.seeThrough = !photo.seeThrough;
  list.queue(photo);
}

function askForKey() {
  $("key-note").textContent = server.hasKey() ? "This key is not known to the server." : "";
  $("key-form").hidden = false;
  $("key").focus();
}

function takeKey(event) {
  event.preventDefault();
  server.setKey($("key").value.trim());
  $("key-form").hidden = true;
  list.retry();
}

function learn({ formats, key_needed: needed, max_image_bytes: mostBytes }) {
  list.setLimits(formats.flatMap((format) => format.endings), mostBytes);
  $("formats").textContent = `Up to ${list.MOST} at a time: ${formats.map((format) => format.name).join(", ")}`;
  // Phones turn what is not listed here, such as HEIC, into JPEG themselves.
  $("pick").accept = formats.flatMap((format) => [format.type, ...format.endings.map((ending) => `.${ending}`)]).join(",");
  if (needed) askForKey();
}

/** Show one part of the tools on a phone, where they have no place side by side. */
function openPart(button) {
  for (const other of $("bar").children) {
    const open = other === button;
    other.setAttribute("aria-expanded", open);
    $(other.getAttribute("aria-controls")).classList.toggle("open", open);
  }
}

function pan(x, y) { return (event) => (event.target.closest("input, #strip") ? false : viewer.pan(x, y)); }

const SHORTCUTS = [
  [["?"], "This list", () => $("help").showModal()],
  [["A"], "Add photos", () => $("pick").click()],
  [["Ctrl+V"], "Paste photos"],
  [["PageUp"], "Photo before", () => list.step(-1)],
  [["PageDown"], "Next photo", () => list.step(1)],
  [["Delete"], "Remove the photo", () => list.currentPhoto() && list.remove(list.currentPhoto())],
  [["+", "="], "Zoom in", () => viewer.zoom(1.25)],
  [["-"], "Zoom out", () => viewer.zoom(0.8)],
  [["0"], "Show all of it", () => viewer.fit()],
  [["1"], "Pixel for pixel", () => viewer.actualSize()],
  [["ArrowLeft"], "Move left", pan(48, 0)],
  [["ArrowRight"], "Move right", pan(-48, 0)],
  [["ArrowUp"], "Move up", pan(0, 48)],
  [["ArrowDown"], "Move down", pan(0, -48)],
  [["c"], "Before and after", () => compare()],
  [["g"], "Next background", () => look.chooseNext()],
  [["Ctrl+S", "Ctrl+s"], "Download", () => saveOne()],
  [["Ctrl+c"], "Copy the picture", () => (getSelection().isCollapsed && saving.canCopy() ? copy() : false)],
];

list.setCutter(cut);
list.events.addEventListener("list", () => { tellLeft(); count(); });
list.events.addEventListener("current", () => { showState(); showCurrent(); });
list.events.addEventListener("state", ({ detail: photo }) => {
  if (photo === list.currentPhoto()) {
    showState();
    if (photo.state === "done") showCurrent({ keep: true, fresh: true });
  }
  tellLeft();
  count();
});
look.start(say);
look.events.addEventListener("change", repaint);
keys.start(SHORTCUTS);
viewer.whenViewChanges.push((scale) => { $("percent").textContent = `${Math.round(scale * devicePixelRatio * 100)} %`; });
server.onKeyNeeded(askForKey);
for (const [id, action] of Object.entries({
  all: saveAll, save: saveOne, copy, glass: toggleGlass, compare: () => compare(), more: () => $("pick").click(),
  "zoom-in": () => viewer.zoom(1.25), "zoom-out": () => viewer.zoom(0.8), fit: viewer.fit,
  next: list.addLeftOut, forget: list.forgetLeftOut, again: () => list.queue(list.currentPhoto()),
  "drop-one": () => list.remove(list.currentPhoto()),
  clear: () => { [...list.photos].forEach(list.remove); $("pick").focus(); },
})) $(id).addEventListener("click", action);
for (const button of $("bar").children) button.addEventListener("click", () => openPart(button));
openPart($("bar").firstElementChild);
$("copy").hidden = !saving.canCopy();
$("key-form").addEventListener("submit", takeKey);
$("pick").addEventListener("change", (event) => { list.add(event.target.files); event.target.value = ""; });
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) list.add(event.clipboardData.files); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") list.add(event.dataTransfer.files);
  });
}
addEventListener("offline", () => say("You are offline. Nothing is lost: the work goes on when you are back."));
addEventListener("online", () => list.retry((photo) => photo.lost));
addEventListener("beforeunload", (event) => { if (list.photos.length) event.preventDefault(); });
server.json("page.json").then(learn).catch(() => say("The server cannot be reached."));
server.json("ready").then(({ model }) => {
  if (model) $("model").textContent = `Model ${model}. Photos are kept in memory while you work on them, and never stored.`;
}).catch(() => say("The server is not ready yet."));
