// Canvases: files drawn on them, and what lies behind a subject.

// Phones have little memory, and Safari refuses larger canvases.
export const MOST_PX = matchMedia("(pointer: coarse)").matches ? 3e6 : 6e6;

export function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  return canvas;
}

/** Give memory back at once; the browser would do it some time later. */
export function release(...canvases) { canvases.forEach((canvas) => { if (canvas) { canvas.width = 0; canvas.height = 0; } }); }

/** The size in which a picture is shown, within so many pixels. */
export function sizeWithin({ width, height }, mostPx) {
  const share = Math.min(1, Math.sqrt(mostPx / (width * height)));
  return { width: Math.max(1, Math.round(width * share)), height: Math.max(1, Math.round(height * share)) };
}

/** Draw a file on a canvas of a size, or of its own within `mostPx`. Null if the browser cannot read it (HEIC, TIFF). */
export async function decode(file, { size, mostPx = MOST_PX } = {}) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  const { width, height } = size ?? sizeWithin(bitmap, mostPx);
  const fits = Math.abs(bitmap.width / bitmap.height - width / height) < 0.01 * (width / height) + 2 / height;
  const canvas = fits ? canvasOf(width, height) : null;
  if (canvas) {
    const brush = canvas.getContext("2d");
    brush.imageSmoothingQuality = "high";
    brush.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  }
  bitmap.close();
  return canvas;
}

/** Draw the background that was chosen, over the whole of a picture. */
export function paintBackground(brush, width, height, look, before) {
  if (look.background === "picture" && look.picture) return cover(brush, look.picture, width, height);
  if (look.background === "blur" && before) return cover(brush, blurred(before), width, height);
  if (look.background.startsWith("#")) {
    brush.fillStyle = look.background;
    brush.fillRect(0, 0, width, height);
  }
  return undefined;
}

function cover(brush, picture, width, height) {
  const scale = Math.max(width / picture.width, height / picture.height);
  const [w, h] = [picture.width * scale, picture.height * scale];
  brush.save();
  brush.beginPath();
  brush.rect(0, 0, width, height);
  brush.clip();
  brush.drawImage(picture, (width - w) / 2, (height - h) / 2, w, h);
  brush.restore();
}

const small = new WeakMap(); // a blurred picture has no detail that a small one lacks

function blurred(before) {
  if (!small.has(before)) {
    const steps = [16, 5, 16, 48, 256].map((side) => canvasOf(side * 4, side * 4 * (before.height / before.width)));
    steps.reduce((from, to) => {
      const brush = to.getContext("2d");
      brush.imageSmoothingQuality = "high";
      brush.drawImage(from, 0, 0, to.width, to.height);
      return to;
    }, before);
    small.set(before, steps.at(-1));
  }
  return small.get(before);
}

/** Draw the pattern that stands for transparent, in squares of `side` units of the brush. */
export function paintChecker(brush, width, height, side) {
  const tile = canvasOf(2 * side, 2 * side);
  const pen = tile.getContext("2d");
  const [light, deep] = matchMedia("(prefers-color-scheme: dark)").matches ? ["#3a424d", "#2e353f"] : ["#ffffff", "#e3e7ec"];
  pen.fillStyle = light;
  pen.fillRect(0, 0, 2 * side, 2 * side);
  pen.fillStyle = deep;
  pen.fillRect(0, 0, side, side);
  pen.fillRect(side, side, side, side);
  brush.fillStyle = brush.createPattern(tile, "repeat");
  brush.fillRect(0, 0, width, height);
}
