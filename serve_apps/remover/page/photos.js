// The photos of this visit: which there are, which is looked at, and the queue in which they are cut out.

export const MOST = 10;
const AT_ONCE = 2;
export const photos = [];
export const left = { over: [], refused: [] }; // photos that had no place, files that the server cannot read
export const events = new EventTarget(); // "list", "state" (of `detail`), "current"
let current = null;
let readable = null; // formats that the server reads, as file name endings; null until it has said so
let mostBytes = Infinity;
let cut = async () => {};
const waiting = [];
let working = 0;

export function currentPhoto() { return current; }

/** Say how a photo is cut out: a function that keeps what it gets in the photo, or throws. */
export function setCutter(cutter) { cut = cutter; }

export function setLimits(endings, bytes) {
  readable = endings;
  mostBytes = bytes ?? Infinity;
}

function emit(kind, detail) { events.dispatchEvent(new CustomEvent(kind, { detail })); }

export function stemOf(name) { return (name.replace(/\.[^.]*$/, "") || "photo").slice(0, 80); }

function endingOf(file) { return (/\.([^.]*)$/.exec(file.name)?.[1] ?? file.type.split("/").pop()).toLowerCase(); }

function isPhoto(file) {
  const known = readable ? readable.includes(endingOf(file)) : /^(heic|heif|avif|tiff?)$/.test(endingOf(file));
  return known || (file.type.startsWith("image/") && !/hei[cf]/.test(file.type + endingOf(file)));
}

export function add(files) {
  const images = [...files].filter(isPhoto);
  left.refused.push(...[...files].filter((file) => !isPhoto(file)));
  const room = Math.max(0, MOST - photos.length);
  const added = images.slice(0, room).map(make);
  left.over.push(...images.slice(room));
  photos.push(...added);
  emit("list");
  if (added.length && !current) choose(added[0]);
  added.forEach(queue);
}

function make(file) {
  return {
    file, name: stemOf(file.name), state: "waiting", share: 0, message: "", trouble: "", seeThrough: false,
    controller: null, lost: false,
    cutout: null, // the finished picture, where the endpoint keeps no edits
    edit: null, size: null, alpha: null, found: true, notes: [], hints: [], redone: [],
    version: 0, // raised with each change of hints, and once the endpoint has taken them
    unsure: false, late: false, correcting: false, outdated: false,
  };
}

export function choose(photo) {
  if (current === photo) return;
  current = photo;
  emit("current", photo);
}

/** Look at the photo that is `step` places further, in a circle. */
export function step(by) {
  if (photos.length) choose(photos[(photos.indexOf(current) + by + photos.length) % photos.length]);
}

export function remove(photo) {
  photo.controller?.abort();
  const at = photos.indexOf(photo);
  photos.splice(at, 1);
  if (waiting.includes(photo)) waiting.splice(waiting.indexOf(photo), 1);
  emit("removed", photo);
  if (current === photo) {
    current = null;
    choose(photos[Math.min(at, photos.length - 1)] ?? null);
    if (!current) emit("current", null);
  }
  emit("list");
}

export function isOver(photo) { return photo.state === "done" || photo.state === "failed"; }

export function addLeftOut() {
  if (photos.length === MOST) photos.filter(isOver).forEach(remove);
  add(left.over.splice(0));
}

export function forgetLeftOut() {
  left.over.length = 0;
  left.refused.length = 0;
  emit("list");
}

/** Put a photo in the queue, again if it was in it before. */
export function queue(photo) {
  Object.assign(photo, { state: "waiting", share: 0, message: "", lost: false });
  if (photo.file.size > mostBytes) {
    const size = (bytes) => `${(bytes / 1048576).toFixed(0)} MB`;
    return set(photo, "failed", { message: `This file has ${size(photo.file.size)}; this server takes up to ${size(mostBytes)}. Save it smaller or as JPEG.` });
  }
  waiting.push(photo);
  emit("state", photo);
  return work();
}

/** Try all photos again that failed for a reason that may have passed. */
export function retry(wanted = () => true) { photos.filter((photo) => photo.state === "failed" && wanted(photo)).forEach(queue); }

export function set(photo, state, more = {}) {
  Object.assign(photo, { state, ...more });
  emit("state", photo);
}

function work() {
  while (working < AT_ONCE && waiting.length) {
    working += 1;
    const photo = waiting.shift();
    run(photo).finally(() => { working -= 1; work(); });
  }
}

async function run(photo) {
  photo.controller = new AbortController();
  try {
    await cut(photo, {
      signal: photo.controller.signal,
      progress: (share) => set(photo, share < 1 ? "sending" : "working", { share }),
      busy: (seconds) => set(photo, "busy", { message: `The server is busy. Next try in ${seconds} s.` }),
    });
    if (photos.includes(photo)) set(photo, "done", { message: "" });
  } catch (error) {
    if (photos.includes(photo)) set(photo, "failed", { message: error.message, lost: error.status === 0 });
  }
}
