// Finished pictures: asked of the endpoint in full quality, then downloaded, packed or copied.

import { result } from "./edits.js";
import { fieldsOf } from "./look.js";
import { ask, formOf } from "./server.js";
import { zip } from "./zip.js";

const ENDINGS = { "image/png": "png", "image/webp": "webp", "image/jpeg": "jpg" };

/** Ask for the finished picture of a photo, with the options of the page or others. */
export async function finish(photo, fields = fieldsOf(), calls = {}) {
  if (photo.edit || photo.alpha) return result(photo, fields, calls);
  if (Object.keys(fields).length === 1 && fields.format === "png") return photo.cutout; // it is that already
  const { blob } = await ask("POST", "remove-background", { ...calls, form: () => formOf(photo, fields) });
  return blob;
}

function give(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export async function saveOne(photo, calls) {
  const blob = await finish(photo, fieldsOf(), calls);
  give(blob, `${photo.name}-cutout.${ENDINGS[blob.type]}`);
}

/** Download all finished photos in one file. Returns the names of those that could not be had. */
export async function saveAll(photos, told) {
  const entries = [];
  const missing = [];
  for (const [index, photo] of photos.entries()) {
    told(index + 1, photos.length);
    try {
      const blob = await finish(photo);
      const bytes = new Uint8Array(await blob.arrayBuffer());
      entries.push({ name: `${String(index + 1).padStart(2, "0")}-${photo.name}-cutout.${ENDINGS[blob.type]}`, bytes });
    } catch {
      missing.push(photo.name);
    }
  }
  if (entries.length) give(zip(entries), "cutouts.zip");
  return missing;
}

export function canCopy() { return Boolean(navigator.clipboard?.write && window.ClipboardItem); }

/** Copy the finished picture; the clipboard takes PNG alone. */
export async function copy(photo) {
  const png = finish(photo, { ...fieldsOf(), format: "png" });
  await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]); // Safari wants the promise at once
}
