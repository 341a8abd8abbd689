// Speaks with the endpoint: progress of an upload, another try while it is busy, the API key, errors that people can read.

const TRIES = 5;
let key = ""; // in this page alone, never stored
const whenKeyNeeded = [];

/** What an answer other than 2xx was, or that there was none (`status` 0). */
export class ServerError extends Error {
  constructor(message, status = 0, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function setKey(value) { key = value; }

export function hasKey() { return key !== ""; }

export function onKeyNeeded(listener) { whenKeyNeeded.push(listener); }

/**
 * Send one request; wait and send it again while the endpoint is busy.
 *
 * `form` is called for each try. `progress` is told the share that has been sent, `busy` the seconds until the next try.
 * Returns the answer as {status, blob, header}. Throws ServerError, or AbortError after `signal`.
 */
export async function ask(method, path, { form, progress, busy, signal } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const answer = await once(method, path, form?.(), progress, signal);
    if (answer.status === 401) whenKeyNeeded.forEach((listener) => listener());
    if (answer.status >= 200 && answer.status < 300) return answer;
    const passes = answer.status === 429 || answer.status === 503;
    if (!passes || attempt === TRIES) throw await failure(answer);
    const seconds = (Number(answer.header("Retry-After")) || 2) * (1 + Math.random());
    busy?.(Math.ceil(seconds));
    await pause(seconds, signal);
  }
}

export async function json(path) { return (await fetch(path)).json(); }

/** What the endpoint can do, by its own description: {edits, options}; nothing more than a plain cutout if it does not say. */
export async function offer() {
  const { paths } = await json("openapi.json").catch(() => ({ paths: {} }));
  const form = paths["/remove-background"]?.post.requestBody.content["multipart/form-data"].schema.properties ?? {};
  return { edits: "/edits" in paths, options: form };
}

/** The form that has a photo cut out with some options. */
export function formOf(photo, fields) {
  const form = new FormData();
  form.append("image", photo.file, "photo"); // its real name stays here
  if (photo.seeThrough) form.append("see_through", "true");
  return addFields(form, fields);
}

export function addFields(form, fields) {
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) form.append(name, value, "picture");
    else form.append(name, value);
  }
  return form;
}

function once(method, path, body, progress, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = new XMLHttpRequest(); // fetch cannot tell how much has been sent
    const stop = () => request.abort();
    signal?.addEventListener("abort", stop);
    request.open(method, path);
    request.responseType = "blob";
    if (key) request.setRequestHeader("X-API-Key", key);
    if (progress) {
      request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) progress(event.loaded / event.total); });
      request.upload.addEventListener("load", () => progress(1));
    }
    request.addEventListener("load", () => resolve({
      status: request.status, blob: request.response, header: (name) => request.getResponseHeader(name),
    }));
    request.addEventListener("error", () => reject(new ServerError("The server cannot be reached. Nothing is lost: try again when you are online.")));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    request.addEventListener("loadend", () => signal?.removeEventListener("abort", stop));
    request.send(body);
  });
}

async function failure({ status, blob }) {
  try {
    const { message, code } = JSON.parse(await blob.text());
    return new ServerError(message, status, code);
  } catch {
    return new ServerError(status === 413 ? "The photo is too large for this server." : `The server answered ${status}.`, status);
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const over = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => { clearTimeout(over); reject(new DOMException("stopped", "AbortError")); }, { once: true });
  });
}
