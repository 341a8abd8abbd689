// Corrections of one photo: the endpoint keeps what the network saw, and is told all boxes and strokes that hold so far.

import { decodeGrey, patch } from "./cutout.js";
import { canvasOf, MOST_PX, sizeWithin } from "./layers.js";
import { addFields, ask, formOf, ServerError } from "./server.js";

const STROKES_PX = 1600; // longer side of the picture of strokes
const COLORS = { keep: "#00ff00", drop: "#ff0000" };

/** Begin to edit a photo: the endpoint cuts it out and keeps it. Fills `edit`, `size`, `found` and `alpha` of the photo. */
export async function begin(photo, calls = {}) {
  const { blob } = await ask("POST", "edits", { ...calls, form: () => formOf(photo, {}) });
  const { id, width, height, report } = JSON.parse(await blob.text());
  Object.assign(photo, { edit: id, size: { width, height }, found: report.subject_found, notes: report.notes });
  if (photo.hints.length) await postHints(photo, calls);
  await fetchAlpha(photo, calls);
}

/** Let the endpoint forget a photo. */
export function end(photo) {
  if (photo.edit) ask("DELETE", `edits/${photo.edit}`).catch(() => {}); // it forgets by itself, only later
  photo.edit = null;
}

async function fetchAlpha(photo, calls) {
  const { width, height } = sizeWithin(photo.size, MOST_PX);
  const { blob } = await ask("GET", `edits/${photo.edit}/alpha?max_side=${Math.max(width, height)}`, calls);
  photo.alpha = await decodeGrey(blob, width, height);
}

/** Do something with the kept photo; begin anew, without a word, where the endpoint has forgotten it. */
export async function withEdit(photo, calls, work) {
  if (photo.edit) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ServerError) || ![404, 409, 410].includes(error.status)) throw error;
    }
  }
  await begin(photo, calls);
  return work();
}

/** Ask for the finished picture in full quality. */
export function result(photo, fields, calls) {
  return withEdit(photo, calls, async () => {
    const { blob } = await ask("POST", `edits/${photo.edit}/result`, { ...calls, form: () => addFields(new FormData(), fields) });
    return blob;
  });
}

/**
 * Tell the endpoint all hints of a photo, and put what has changed into its alpha channel.
 *
 * Returns the changed box in pixels of the alpha channel (left, top, right, bottom), or null where nothing has changed.
 */
export async function apply(photo, calls) {
  const before = photo.alpha;
  const box = await withEdit(photo, calls, async () => {
    const unsure = photo.unsure;
    photo.unsure = true; // until the answer is in the picture: what the endpoint sends next is the difference to this one
    const { blob, status, header } = await postHints(photo, calls);
    if (unsure) await fetchAlpha(photo, calls);
    const changed = status === 204 || unsure ? null : await patchBox(photo, blob, header("X-Box").split(",").map(Number));
    photo.unsure = false;
    return changed;
  });
  photo.version += 1;
  return photo.alpha === before ? box : [0, 0, photo.alpha.width, photo.alpha.height];
}

async function patchBox({ alpha, size }, blob, box) {
  const [x, y, x1, y1] = box.map((edge, index) => edge * (index % 2 ? alpha.height / size.height : alpha.width / size.width));
  // Whole pixels alone: what lies on the edge of the box has hardly changed.
  const [left, top, right, bottom] = [Math.ceil(x), Math.ceil(y), Math.floor(x1), Math.floor(y1)];
  if (right <= left || bottom <= top) return null;
  patch(alpha, await decodeGrey(blob, right - left, bottom - top, [x - left, y - top, x1 - x, y1 - y]), left, top);
  return [left, top, right, bottom];
}

async function postHints(photo, calls) {
  const strokes = await strokesOf(photo);
  const box = photo.hints.findLast((hint) => hint.kind === "box");
  const form = () => {
    const filled = new FormData();
    if (box) filled.append("box", boxText(box));
    if (strokes) filled.append("strokes", strokes, "strokes.png");
    return filled;
  };
  const answer = await ask("POST", `edits/${photo.edit}/strokes`, { ...calls, form });
  photo.found = JSON.parse(answer.header("X-Report")).subject_found;
  return answer;
}

function boxText({ box }) { return box.map((share) => `${(100 * share).toFixed(3)}%`).join(","); }

/** Draw all strokes, later ones over earlier ones, so that no pixel is both kept and dropped. */
async function strokesOf({ hints, size }) {
  const strokes = hints.filter((hint) => hint.kind !== "box");
  if (!strokes.length) return null;
  const scale = Math.min(1, STROKES_PX / Math.max(size.width, size.height));
  const canvas = canvasOf(size.width * scale, size.height * scale);
  const brush = canvas.getContext("2d");
  strokes.forEach((stroke) => drawStroke(brush, stroke, canvas.width, canvas.height, COLORS[stroke.kind]));
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

/** Draw one stroke; its points and its width are shares of the picture. */
export function drawStroke(brush, { points, width: share }, width, height, color) {
  brush.strokeStyle = color;
  brush.lineWidth = Math.max(1, share * Math.max(width, height));
  brush.lineCap = brush.lineJoin = "round";
  brush.beginPath();
  points.forEach(([x, y], index) => (index ? brush.lineTo(x * width, y * height) : brush.moveTo(x * width, y * height)));
  if (points.length === 1) brush.lineTo(points[0][0] * width, points[0][1] * height); // a point is a line without length
  brush.stroke();
}
