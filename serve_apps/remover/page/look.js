// What every result of this visit looks like: background, layout, shadow and the kind of file.

const $ = (id) => document.getElementById(id);
const PREVIEW = { format: "webp" };
const templates = new Map(); // by name
export const look = { background: "none", picture: null, pictureFile: null };
export const events = new EventTarget(); // "change"

function changed() { events.dispatchEvent(new Event("change")); }

function template() { return templates.get($("canvas").value.replace("template:", "")); }

/** Whether what is behind the subject can be seen through, in the photo's frame. */
export function isClear() { return look.background === "none"; }

function isResultClear() { return isClear() && !template()?.has_background; }

function layout() {
  const fields = {};
  const canvas = $("canvas").value;
  if (canvas === "trim") fields.crop = "true";
  else if (canvas === "own") fields.size = `${$("own-width").value || 1}x${$("own-height").value || 1}`;
  else if (canvas.startsWith("template:")) fields.template = canvas.slice(9);
  else if (canvas) fields.size = canvas;
  if ((fields.size || fields.crop) && Number($("margin").value)) fields.margin = `${$("margin").value}%`;
  const shadow = document.querySelector("input[name=shadow]:checked").value;
  if (shadow !== "none") Object.assign(fields, { shadow, shadow_strength: Number($("strength").value) / 100 });
  if ($("outline").checked) fields.outline = $("outline-color").value;
  return fields;
}

/** Whether the result is more than the photo's frame with another background. */
export function hasLayout() { return Object.keys(layout()).length > 0; }

/** The options of a result, as the endpoint's form has them. */
export function fieldsOf() {
  const fields = { format: $("format").value, ...layout() };
  if (look.background.startsWith("#") || look.background === "blur") fields.background = look.background;
  if (look.background === "picture") fields.background_image = look.pictureFile;
  return fields;
}

/** The options of a picture that is only looked at: sooner there, at most two million pixels where it has no size. */
export function previewFields() {
  const fields = { ...fieldsOf(), ...PREVIEW };
  return fields.size || template()?.has_size ? fields : { ...fields, size: "2MP" };
}

function idOf(file) { return file && [file.name, file.size, file.lastModified]; }

/** A text that differs where results do. */
export function keyOf() { return JSON.stringify({ ...fieldsOf(), format: "", background_image: idOf(look.pictureFile) }); }

function read() {
  const { value } = document.querySelector("input[name=background]:checked");
  look.background = value === "color" ? $("color").value : value;
  const jpeg = $("format").querySelector("[value=jpeg]");
  jpeg.disabled = isResultClear();
  jpeg.textContent = isResultClear() ? "JPEG (needs a background)" : "JPEG";
  if (jpeg.disabled && $("format").value === "jpeg") $("format").value = "png";
  const canvas = $("canvas").value;
  $("about").textContent = template()?.about ?? "";
  $("own-size").hidden = canvas !== "own";
  $("margin-field").hidden = !canvas || canvas.startsWith("template:");
  $("margin-now").textContent = `${$("margin").value} %`;
  $("strength-field").hidden = document.querySelector("input[name=shadow]:checked").value === "none";
  $("strength-now").textContent = `${$("strength").value} %`;
  changed();
}

/** Choose one of the backgrounds, as a click does. */
export function chooseNext() {
  const radios = [...document.querySelectorAll("input[name=background]")].filter((radio) => radio.value !== "picture" || look.picture);
  const next = radios[(radios.findIndex((radio) => radio.checked) + 1) % radios.length];
  next.checked = true;
  read();
}

/** Take a background picture; the one before it stays if this one cannot be read. */
async function take(file) {
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) throw new Error("This background picture cannot be read. JPEG, PNG and WebP can.");
  look.picture?.close();
  Object.assign(look, { picture, pictureFile: file });
  $("picture-name").textContent = file.name.slice(0, 24);
  document.querySelector("input[value=picture]").checked = true;
  read();
}

function pickRadio() {
  if (this.value !== "picture" || look.picture) return read();
  const kept = look.background.startsWith("#") && look.background !== "#ffffff" ? "color" : look.background;
  document.querySelector(`input[name=background][value="${kept}"]`).checked = true;
  return $("picture").click(); // chosen once there is one
}

/** Show only what this endpoint can do, by the options of its form. */
export function offer(options) {
  const can = (name) => name in options;
  $("part-layout").hidden = !can("size");
  document.querySelector("#bar [aria-controls=part-layout]").hidden = !can("size");
  $("shadows").hidden = !can("shadow");
  $("outline-field").hidden = !can("outline");
}

/** Offer the templates of the endpoint as sizes. */
export function offerTemplates(list) {
  const group = document.createElement("optgroup");
  group.label = "Templates";
  for (const one of list) {
    templates.set(one.name, one);
    const name = one.name.replaceAll("-", " ");
    const option = new Option(name[0].toUpperCase() + name.slice(1), `template:${one.name}`);
    option.title = one.about;
    group.append(option);
  }
  $("canvas").append(group);
}

export function start(onError) {
  $("color").addEventListener("input", () => { document.querySelector("input[value=color]").checked = true; read(); });
  $("picture").addEventListener("change", (event) => {
    if (event.target.files[0]) take(event.target.files[0]).catch((error) => onError(error.message));
    event.target.value = "";
  });
  document.querySelectorAll("input[name=background]").forEach((radio) => radio.addEventListener("change", pickRadio));
  document.querySelector("input[value=picture]").addEventListener("click", () => { if (look.background === "picture") $("picture").click(); });
  $("format").addEventListener("change", changed);
  for (const field of $("part-layout").querySelectorAll("input, select")) field.addEventListener("input", read);
  $("outline-color").addEventListener("input", () => { $("outline").checked = true; read(); });
  read();
}
