// The studio: joins the list of photos, the large picture, the tools and what is saved.

import * as brush from "./brush.js";
import * as edits from "./edits.js";
import * as keys from "./keys.js";
import * as list from "./photos.js";
import * as look from "./look.js";
import * as saving from "./save.js";
import * as server from "./server.js";
import * as stage from "./stage.js";
import * as strip from "./strip.js";
import * as viewer from "./viewer.js";

const $ = (id) => document.getElementById(id);
const offered = server.offer();
let told = ""; // what the line at the top says beside the count

/** Cut a photo out: as an edit that can be corrected, where the endpoint keeps edits and this browser can show the photo. */
async function cut(photo, calls) {
  edits.end(photo);
  const { edits: keeps } = await offered;
  const shape = keeps ? await strip.shapeOf(photo) : null;
  if (shape) {
    await edits.begin(photo, calls);
    if (Math.abs(shape * (photo.size.height / photo.size.width) - 1) < 0.03) return;
    edits.end(photo); // the browser shows it in another way than the endpoint reads it
    photo.alpha = null;
  }
  const answer = await server.ask("POST", "remove-background", { ...calls, form: () => server.formOf(photo, { format: "png" }) });
  photo.cutout = answer.blob;
  photo.found = answer.header("X-Subject-Found") !== "false";
  photo.notes = (answer.header("X-Notes") ?? "").split("; ");
}

function count() {
  const [done, failed] = ["done", "failed"].map((state) => list.photos.filter((photo) => photo.state === state).length);
  $("all").disabled = done === 0;
  $("all").hidden = list.photos.length < 2;
  const all = list.photos.length;
  const parts = all ? [done < all ? `${done} of ${all} done` : all > 1 ? `All ${all} photos done` : "Done"] : [];
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
    stage.showState();
    count();
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

function learn({ formats, templates, key_needed: needed, max_image_bytes: mostBytes }) {
  look.offerTemplates(templates);
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

/** The arrow keys move the tool, or the picture if there is none. */
function arrow(x, y) {
  return (event) => {
    if (event.target.closest("input, #strip")) return false;
    const step = event.shiftKey ? 6 : 1;
    return brush.nudge(8 * x * step, 8 * y * step) || viewer.pan(-48 * x, -48 * y);
  };
}

const SHORTCUTS = [
  [["?"], "This list", () => $("help").showModal()],
  [["a"], "Add photos", () => $("pick").click()],
  [["Ctrl+V"], "Paste photos"],
  [["PageUp"], "Photo before", () => list.step(-1)],
  [["PageDown"], "Next photo", () => list.step(1)],
  [["Delete"], "Remove the photo", () => list.currentPhoto() && list.remove(list.currentPhoto())],
  [["+", "="], "Zoom in", () => viewer.zoom(1.25)],
  [["-"], "Zoom out", () => viewer.zoom(0.8)],
  [["0"], "Show all of it", () => viewer.fit()],
  [["1"], "Pixel for pixel", () => viewer.actualSize()],
  [["c"], "Before and after", () => stage.compare()],
  [["v"], "Move the picture", () => brush.pick("move")],
  [["b"], "Draw a box around the subject", () => brush.pick("box")],
  [["k"], "Brush: keep", () => brush.pick("keep")],
  [["d"], "Brush: remove", () => brush.pick("drop")],
  [["["], "Smaller brush", () => brush.resize(0.8)],
  [["]"], "Larger brush", () => brush.resize(1.25)],
  [["ArrowLeft"], "Move the picture or the tool; with Shift further", arrow(-1, 0)],
  [["ArrowRight"], "", arrow(1, 0)],
  [["ArrowUp"], "", arrow(0, -1)],
  [["ArrowDown"], "", arrow(0, 1)],
  [[" ", "Enter"], "Set the tool down, or lift it", () => brush.press()],
  [["Escape"], "Give the tool up", () => brush.escape()],
  [["Ctrl+z"], "Undo", () => brush.undo()],
  [["Ctrl+Z", "Ctrl+y"], "Redo", () => brush.redo()],
  [["g"], "Next background", () => look.chooseNext()],
  [["Ctrl+s"], "Download", () => saveOne()],
  [["Ctrl+c"], "Copy the picture", () => (getSelection().isCollapsed && saving.canCopy() ? copy() : false)],
];

list.setCutter(cut);
list.events.addEventListener("list", () => { tellLeft(); count(); });
list.events.addEventListener("current", () => { stage.showState(); stage.showCurrent(); });
list.events.addEventListener("removed", ({ detail: photo }) => edits.end(photo));
list.events.addEventListener("state", ({ detail: photo }) => {
  if (photo === list.currentPhoto()) {
    stage.showState();
    if (photo.state === "done") stage.showCurrent({ keep: true, fresh: true });
  }
  tellLeft();
  count();
});
look.start(say);
look.events.addEventListener("change", () => { stage.refresh(); strip.repaint(); });
brush.start((what) => {
  if (what === "hints") return stage.correct();
  if (brush.current() !== "move") stage.compare(false);
  return stage.refresh();
});
offered.then(({ edits: keeps, options }) => {
  look.offer(options);
  if (keeps) {
    stage.offerTools();
    for (const part of [$("part-tools"), document.querySelector("[aria-controls=part-tools]")]) part.hidden = false;
    openPart($("bar").firstElementChild);
  }
});
keys.start(SHORTCUTS);
viewer.whenViewChanges.push((scale) => { $("percent").textContent = `${Math.round(scale * 100)} %`; });
server.onKeyNeeded(askForKey);
for (const [id, action] of Object.entries({
  all: saveAll, save: saveOne, copy, glass: toggleGlass, compare: () => stage.compare(), more: () => $("pick").click(),
  "zoom-in": () => viewer.zoom(1.25), "zoom-out": () => viewer.zoom(0.8), fit: viewer.fit,
  next: list.addLeftOut, forget: list.forgetLeftOut, again: () => list.queue(list.currentPhoto()),
  "drop-one": () => list.remove(list.currentPhoto()),
  clear: () => { [...list.photos].forEach(list.remove); $("pick").focus(); },
})) $(id).addEventListener("click", action);
for (const button of $("bar").children) button.addEventListener("click", () => openPart(button));
openPart(document.querySelector("#bar [aria-controls=part-background]"));
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
addEventListener("online", () => {
  list.retry((photo) => photo.lost);
  stage.sendLate();
});
addEventListener("beforeunload", (event) => { if (list.photos.length) event.preventDefault(); });
addEventListener("pagehide", () => list.photos.forEach(edits.end));
server.json("page.json").then(learn).catch(() => say("The server cannot be reached."));
server.json("ready").then(({ model }) => {
  if (model) $("model").textContent = `Model ${model}. Photos are kept in memory while you work on them, and never stored.`;
}).catch(() => say("The server is not ready yet."));
