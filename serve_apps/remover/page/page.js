import { zip } from "./zip.js";

const MOST = 10;
const AT_ONCE = 2;
const TRIES = 5;
const $ = (id) => document.getElementById(id);
const photos = [];
const waiting = [];
let leftOut = []; // photos that had no place
let notTaken = []; // files that the server cannot read
let working = 0;
let backdrop = null;
let key = ""; // in this page alone, never stored
let readable = null; // formats that the server reads, as file name endings; null until it has said so

function say(text) { $("status").textContent = text; }

function stemOf(name) { return (name.replace(/\.[^.]*$/, "") || "photo").slice(0, 80); }

function endingOf(file) { return (/\.([^.]*)$/.exec(file.name)?.[1] ?? file.type.split("/").pop()).toLowerCase(); }

function isPhoto(file) {
  const known = readable ? readable.includes(endingOf(file)) : /^(heic|heif|avif|tiff?)$/.test(endingOf(file));
  return known || (file.type.startsWith("image/") && !/hei[cf]/.test(file.type + endingOf(file)));
}

function add(files) {
  const images = [...files].filter(isPhoto);
  notTaken.push(...[...files].filter((file) => !isPhoto(file)));
  const room = MOST - photos.length;
  images.slice(0, room).forEach(addOne);
  leftOut.push(...images.slice(room));
  $("tools").hidden = photos.length === 0;
  work();
  tell();
}

function namesOf(files) { return files.slice(0, 5).map((file) => file.name).join(", ") + (files.length > 5 ? " …" : ""); }

/** Show what has no place yet, and what is no photo; it stays until somebody answers it. */
function tell() {
  const told = [];
  if (notTaken.length) told.push(`Not taken, because this server cannot read ${notTaken.length > 1 ? "them" : "it"}: ${namesOf(notTaken)}.`);
  if (leftOut.length) told.push(`${leftOut.length} ${leftOut.length > 1 ? "photos wait" : "photo waits"}, because ${MOST} fit at a time: ${namesOf(leftOut)}.`);
  $("left").hidden = told.length === 0;
  $("left").querySelector("p").textContent = told.join(" ");
  $("next").hidden = leftOut.length === 0;
  $("next").textContent = photos.length < MOST ? "Add them" : "Remove the finished ones and add them";
  $("next").disabled = photos.length === MOST && !photos.some(isOver);
  $("forget").textContent = leftOut.length ? "Leave them out" : "All right";
}

function isOver(photo) { return photo.cutout !== null || photo.card.classList.contains("failed"); }

function addLeftOut() {
  if (photos.length === MOST) photos.filter(isOver).forEach(remove);
  const files = leftOut;
  leftOut = [];
  add(files);
}

function forget() {
  leftOut = [];
  notTaken = [];
  tell();
}

function addOne(file) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  const photo = { file, card, name: stemOf(file.name), cutout: null, glass: false };
  const before = card.querySelector(".before img");
  before.src = URL.createObjectURL(file);
  before.alt = `${photo.name}, before`;
  before.addEventListener("error", () => { before.hidden = true; });
  card.querySelector(".name").textContent = photo.name;
  const slider = card.querySelector(".slider");
  const view = card.querySelector(".view");
  const move = () => view.style.setProperty("--cut", `${slider.value}%`);
  slider.addEventListener("input", move);
  move();
  card.querySelector(".save").addEventListener("click", () => saveOne(photo));
  card.querySelector(".glass").addEventListener("click", () => { photo.glass = !photo.glass; again(photo); });
  card.querySelector(".retry").addEventListener("click", () => again(photo));
  const cross = card.querySelector(".remove");
  cross.setAttribute("aria-label", `Remove ${photo.name}`);
  cross.addEventListener("click", () => { remove(photo); count(); tell(); });
  $("photos").append(card);
  photos.push(photo);
  waiting.push(photo);
}

function remove(photo) {
  photo.removed = true;
  photo.request?.abort();
  URL.revokeObjectURL(photo.card.querySelector(".before img").src);
  photo.card.remove();
  photos.splice(photos.indexOf(photo), 1);
  if (waiting.includes(photo)) waiting.splice(waiting.indexOf(photo), 1);
  $("tools").hidden = photos.length === 0;
  if (!photos.length) say("");
}

function again(photo) {
  photo.cutout = null;
  photo.card.classList.remove("done", "failed");
  photo.card.querySelector(".busy span").textContent = "waiting";
  photo.card.querySelector(".glass").setAttribute("aria-pressed", photo.glass);
  photo.card.querySelector(".note").textContent = "";
  waiting.push(photo);
  work();
}

function work() {
  while (working < AT_ONCE && waiting.length) {
    working += 1;
    cut(waiting.shift()).finally(() => { working -= 1; count(); work(); tell(); });
  }
  count();
}

function count() {
  const done = photos.filter((photo) => photo.cutout).length;
  const failed = photos.filter((photo) => photo.card.classList.contains("failed")).length;
  $("all").disabled = done === 0;
  if (photos.length) say(`${done} of ${photos.length} done${failed ? `, ${failed} not possible` : ""}`);
}

async function cut(photo) {
  const label = photo.card.querySelector(".busy span");
  const bar = photo.card.querySelector("progress");
  const note = photo.card.querySelector(".note");
  try {
    const reply = await send(photo, (share) => {
      if (share < 1) { bar.value = share; label.textContent = "sending"; return; }
      bar.removeAttribute("value");
      label.textContent = "cutting out";
    }, () => { label.textContent = "the server is busy, trying again"; });
    photo.cutout = await createImageBitmap(reply.blob);
    photo.card.classList.add("done");
    photo.card.querySelector(".save").disabled = false;
    if (reply.found === "false") note.textContent = "No subject was found in this photo.";
    if (photo.glass && /see_through/.test(reply.notes)) note.textContent = "The background is too busy to tell what is clear.";
    paint(photo);
  } catch (error) {
    if (photo.removed) return;
    photo.card.classList.add("failed");
    note.textContent = error.message;
  }
}

async function send(photo, progress, busy) {
  for (let attempt = 1; ; attempt += 1) {
    const answer = await post(photo, progress);
    if (answer.status === 401) askForKey();
    if (answer.status === 200) {
      const [found, notes] = ["X-Subject-Found", "X-Notes"].map((name) => answer.getResponseHeader(name));
      return { blob: answer.response, found, notes };
    }
    const passes = answer.status === 429 || answer.status === 503;
    if (photo.removed || !passes || attempt === TRIES) throw new Error(await reason(answer));
    busy();
    const pause = Number(answer.getResponseHeader("Retry-After")) || 2;
    await new Promise((resolve) => { setTimeout(resolve, pause * 1000 * (1 + Math.random())); });
    if (photo.removed) throw new Error("removed");
  }
}

function post(photo, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch cannot tell how much has been sent
    photo.request = request;
    request.open("POST", "remove-background");
    if (key) request.setRequestHeader("X-API-Key", key);
    request.responseType = "blob";
    request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) progress(event.loaded / event.total); });
    request.upload.addEventListener("load", () => progress(1));
    request.addEventListener("load", () => resolve(request));
    request.addEventListener("error", () => reject(new Error("The server cannot be reached.")));
    request.addEventListener("abort", () => reject(new Error("removed")));
    const form = new FormData();
    form.append("image", photo.file, "photo"); // its real name stays here
    if (photo.glass) form.append("see_through", "true");
    request.send(form);
  });
}

async function reason(answer) {
  try {
    const { message } = JSON.parse(await answer.response.text());
    return message;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

function chosen() { return document.querySelector("input[name=background]:checked").value; }

function colour() { return chosen() === "colour" ? $("colour").value : chosen(); }

function paint(photo) {
  const canvas = photo.card.querySelector(".after");
  const { width, height } = photo.cutout;
  canvas.width = width;
  canvas.height = height;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${photo.name}, cut out`);
  const brush = canvas.getContext("2d");
  brush.clearRect(0, 0, width, height);
  if (chosen() === "picture" && backdrop) {
    const scale = Math.max(width / backdrop.width, height / backdrop.height);
    const [w, h] = [backdrop.width * scale, backdrop.height * scale];
    brush.drawImage(backdrop, (width - w) / 2, (height - h) / 2, w, h);
  } else if (colour().startsWith("#")) {
    brush.fillStyle = colour();
    brush.fillRect(0, 0, width, height);
  }
  brush.drawImage(photo.cutout, 0, 0);
}

function repaint() { photos.filter((photo) => photo.cutout).forEach(paint); }

function blobOf(photo) {
  return new Promise((resolve) => { photo.card.querySelector(".after").toBlob(resolve, "image/png"); });
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function saveOne(photo) { save(await blobOf(photo), `${photo.name}-cutout.png`); }

async function saveAll() {
  const entries = [];
  for (const [index, photo] of photos.entries()) {
    if (!photo.cutout) continue;
    const bytes = new Uint8Array(await (await blobOf(photo)).arrayBuffer());
    entries.push({ name: `${String(index + 1).padStart(2, "0")}-${photo.name}-cutout.png`, bytes });
  }
  save(zip(entries), "cutouts.zip");
}

async function pickBackdrop(file) {
  try {
    backdrop = await createImageBitmap(file);
    $("picture-name").textContent = stemOf(file.name);
    repaint();
  } catch {
    say("This background picture cannot be read.");
  }
}

function clear() {
  [...photos].forEach(remove);
  tell();
  $("pick").focus();
}

function askForKey() {
  $("key-note").textContent = key ? "This key is not known to the server." : "";
  $("key-form").hidden = false;
  $("key").focus();
}

function takeKey(event) {
  event.preventDefault();
  key = $("key").value.trim();
  $("key-form").hidden = true;
  photos.filter((photo) => photo.card.classList.contains("failed")).forEach(again);
}

function learn({ formats, key_needed: needed }) {
  readable = formats.flatMap((format) => format.endings);
  $("formats").textContent = `up to ${MOST} at a time: ${formats.map((format) => format.name).join(", ")}`;
  // Phones turn what is not listed here, such as HEIC, into JPEG themselves.
  $("pick").accept = formats.flatMap((format) => [format.type, ...format.endings.map((ending) => `.${ending}`)]).join(",");
  if (needed) askForKey();
}

$("pick").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
$("all").addEventListener("click", saveAll);
$("clear").addEventListener("click", clear);
$("next").addEventListener("click", addLeftOut);
$("forget").addEventListener("click", forget);
$("key-form").addEventListener("submit", takeKey);
$("colour").addEventListener("input", () => { document.querySelector("input[value=colour]").checked = true; repaint(); });
$("picture").addEventListener("change", (event) => { if (event.target.files[0]) pickBackdrop(event.target.files[0]); });
document.querySelectorAll("input[name=background]").forEach((radio) => radio.addEventListener("change", () => {
  if (radio.value === "picture" && !backdrop) $("picture").click();
  repaint();
}));
document.querySelector("input[value=picture]").addEventListener("click", () => { if (backdrop) $("picture").click(); });
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) add(event.clipboardData.files); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
fetch("page.json").then((answer) => answer.json()).then(learn).catch(() => say("The server cannot be reached."));
fetch("ready").then((answer) => answer.json()).then(({ model }) => {
  if (model) $("model").textContent = `Model ${model}. Photos are kept in memory while they are worked on, and never stored.`;
}).catch(() => say("The server is not ready yet."));
