// What every result of this visit looks like: the background and the kind of file.

const $ = (id) => document.getElementById(id);
export const look = { background: "none", picture: null, pictureFile: null };
export const events = new EventTarget(); // "change"

function changed() { events.dispatchEvent(new Event("change")); }

export function isClear() { return look.background === "none"; }

/** The options of a result, as the endpoint's form has them. */
export function fieldsOf() {
  const fields = { format: $("format").value };
  if (look.background.startsWith("#") || look.background === "blur") fields.background = look.background;
  if (look.background === "picture") fields.background_image = look.pictureFile;
  return fields;
}

function read() {
  const { value } = document.querySelector("input[name=background]:checked");
  look.background = value === "color" ? $("color").value : value;
  const jpeg = $("format").querySelector("[value=jpeg]");
  jpeg.disabled = isClear();
  jpeg.textContent = isClear() ? "JPEG (needs a background)" : "JPEG";
  if (isClear() && $("format").value === "jpeg") $("format").value = "png";
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

export function start(onError) {
  $("color").addEventListener("input", () => { document.querySelector("input[value=color]").checked = true; read(); });
  $("picture").addEventListener("change", (event) => {
    if (event.target.files[0]) take(event.target.files[0]).catch((error) => onError(error.message));
    event.target.value = "";
  });
  document.querySelectorAll("input[name=background]").forEach((radio) => radio.addEventListener("change", () => {
    if (radio.value !== "picture" || look.picture) return read();
    document.querySelector(`input[name=background][value="${look.background.startsWith("#") && look.background !== "#ffffff" ? "color" : look.background}"]`).checked = true;
    return $("picture").click(); // chosen once there is one
  }));
  document.querySelector("input[value=picture]").addEventListener("click", () => { if (look.background === "picture") $("picture").click(); });
  $("format").addEventListener("change", changed);
  read();
}
