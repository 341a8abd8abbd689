// The photo that is looked at: its picture, how it stands, and the corrections that a person makes.

import * as brush from "./brush.js";
import { drawCutout, load } from "./cutout.js";
import { apply } from "./edits.js";
import { canvasOf, paintBackground, release } from "./layers.js";
import * as look from "./look.js";
import * as list from "./photos.js";
import { finish } from "./save.js";
import * as strip from "./strip.js";
import * as viewer from "./viewer.js";

const $ = (id) => document.getElementById(id);
let layers = null; // of the photo that is shown
let finished = null; // {key, canvas}: as the endpoint lays it out
let asking = null; // stops the question for a finished picture
let hasTools = false;

/** Let people correct what was cut out; not every endpoint keeps photos for that. */
export function offerTools() { hasTools = true; }

/** Show the current photo as far as it has come; `fresh` where it has just been cut out. */
export async function showCurrent({ keep = false, fresh = false } = {}) {
  const photo = list.currentPhoto();
  if (!photo) {
    brush.attach(null);
    viewer.show(null);
    forget();
    return;
  }
  const next = await load(photo);
  if (photo !== list.currentPhoto()) return release(next.before, next.cutout);
  forget();
  layers = next;
  brush.attach(hasTools && photo.alpha && next.before && photo.state === "done" ? photo : null, next.width, next.height);
  $("compare").disabled = !(next.before && next.cutout);
  if ($("compare").disabled) compare(false);
  refresh(keep);
  if (fresh && next.cutout && !look.hasLayout()) viewer.reveal();
}

function forget() {
  release(layers?.before, layers?.cutout, finished?.canvas);
  layers = finished = null;
}

export function compare(on = !viewer.isComparing()) {
  viewer.compare(on && !$("compare").disabled);
  $("compare").setAttribute("aria-pressed", viewer.isComparing());
  refresh();
}

/** Draw the picture again, on the background or in the layout that is chosen now. */
export function refresh(keep = true) {
  if (!layers) return;
  const photo = list.currentPhoto();
  const laidOut = look.hasLayout() && layers.cutout && photo.state === "done" && brush.current() === "move" && !viewer.isComparing();
  asking?.abort();
  if (!laidOut) {
    $("busy").hidden = !photo.correcting;
    showPicture(pictureOf(layers, photo), keep);
    return;
  }
  const key = JSON.stringify([photo.version, photo.edit, look.keyOf()]);
  if (finished?.key === key) showPicture(pictureOfFinished(), keep);
  else askForLayout(photo, key);
}

function showPicture(picture, keep) {
  $("stage").dataset.shown = picture ? `${picture.width}x${picture.height}` : "";
  viewer.show(picture, keep);
}

function pictureOf({ before, cutout, width, height }, photo) {
  if (!width) return null;
  const paint = (pen) => {
    if (cutout) paintBackground(pen, width, height, look.look, before);
    if (cutout && before && (brush.current() !== "move" || !photo.found)) paintFaint(pen, before); // there must be something to point at
    pen.drawImage(cutout ?? before, 0, 0);
  };
  return { width, height, full: photo.size?.width, before: cutout ? before : null, clear: Boolean(cutout) && look.isClear(), paint };
}

function paintFaint(pen, picture) {
  pen.globalAlpha = 0.4;
  pen.drawImage(picture, 0, 0);
  pen.globalAlpha = 1;
}

function pictureOfFinished() {
  const { canvas } = finished;
  return { width: canvas.width, height: canvas.height, clear: true, paint: (pen) => pen.drawImage(canvas, 0, 0) };
}

/** Have the endpoint lay the picture out, so that what is seen is what is saved; the last wish counts. */
async function askForLayout(photo, key) {
  asking = new AbortController();
  const { signal } = asking;
  $("busy").hidden = false;
  try {
    await new Promise((resolve) => { setTimeout(resolve, 250); }); // a slider that is still moved
    signal.throwIfAborted();
    const bitmap = await createImageBitmap(await finish(photo, look.previewFields(), { signal }));
    if (signal.aborted) return bitmap.close();
    release(finished?.canvas);
    const canvas = canvasOf(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    finished = { key, canvas };
    showPicture(pictureOfFinished(), true);
    photo.trouble = "";
  } catch (error) {
    if (signal.aborted) return undefined;
    photo.trouble = error.message;
  }
  $("busy").hidden = true;
  showState();
  return undefined;
}

const CHIPS = { waiting: () => "Waiting", working: () => "Cutting out", sending: (photo) => `Sending ${Math.round(100 * photo.share)} %`, busy: (photo) => photo.message };

/** Say how the current photo stands, over the large picture. */
export function showState() {
  const photo = list.currentPhoto();
  const chip = photo && CHIPS[photo.state]?.(photo);
  $("chip").hidden = !chip;
  $("chip-text").textContent = chip ?? "";
  $("desk").dataset.state = photo?.state ?? "";
  $("message").hidden = photo?.state !== "failed";
  $("message").querySelector("p").textContent = photo?.state === "failed" ? photo.message : "";
  const note = photo?.state === "done" ? photo.trouble || noteOf(photo) : "";
  $("note").hidden = !note;
  $("note").textContent = note;
  $("stage").setAttribute("aria-label", photo ? `${photo.name}, ${photo.state === "done" ? "cut out" : photo.state}` : "Photo");
  for (const id of ["save", "copy"]) $(id).disabled = photo?.state !== "done" || $(id).hasAttribute("aria-busy");
  $("glass").disabled = !photo || !list.isOver(photo);
  $("glass").setAttribute("aria-pressed", Boolean(photo?.seeThrough));
}

function noteOf(photo) {
  if (!photo.found) return `No subject was found in this photo.${photo.edit && hasTools ? " Draw a box around it, or mark it with Keep." : ""}`;
  if (photo.seeThrough && photo.notes.some((note) => note.includes("see_through"))) return "The background is too busy to tell what is clear.";
  return "";
}

/** Send the hints of the current photo, and draw what they change; one question at a time, with all hints that there are. */
export async function correct() {
  const photo = list.currentPhoto();
  photo.trouble = "";
  viewer.draw();
  if (photo.correcting) {
    photo.outdated = true;
    return;
  }
  photo.correcting = true;
  $("busy").hidden = false;
  try {
    do {
      photo.outdated = false;
      const number = photo.hints.length;
      const box = await apply(photo);
      if (photo === list.currentPhoto() && layers?.cutout) {
        if (box) drawCutout(layers.cutout, layers.before, photo.alpha, box);
        if (!photo.outdated) brush.answered(number);
        viewer.draw();
      }
    } while (photo.outdated);
  } catch (error) {
    fail(photo, error);
  }
  photo.correcting = false;
  $("busy").hidden = true;
  if (photo === list.currentPhoto() && layers?.cutout) strip.update(photo, layers.cutout);
  else strip.picture(photo);
  showState();
  refresh();
}

/** What was refused is taken back; what only did not arrive stays, and goes with the next stroke or another try. */
function fail(photo, error) {
  if (error.status >= 400 && error.status < 429) {
    photo.hints.pop();
    photo.version += 1;
    brush.attach(photo, layers.width, layers.height);
    photo.trouble = `${error.message} The last mark was taken back.`;
  } else {
    photo.late = true;
    photo.trouble = `${error.message} Your marks are kept.`;
  }
}

/** Send marks again that did not arrive. */
export function sendLate() {
  const photo = list.currentPhoto();
  if (photo?.late) {
    photo.late = false;
    correct();
  }
}
