// Shows openapi.json as a page of plain HTML.

const make = (tag, text = "", className = "") => {
  const element = document.createElement(tag);
  // Names stand between backticks in the description, as in Markdown.
  String(text).split("`").forEach((part, index) => {
    if (index % 2 === 0) return element.append(part);
    const name = document.createElement("code");
    name.textContent = part;
    element.append(name);
  });
  if (className) element.className = className;
  return element;
};

function table(head, rows) {
  const element = make("table");
  const line = element.createTHead().insertRow();
  head.forEach((text) => line.append(make("th", text)));
  const body = element.createTBody();
  rows.forEach((cells) => { const row = body.insertRow(); cells.forEach((text) => row.append(make("td", text))); });
  return element;
}

function kindOf(schema) {
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.format === "binary") return "file";
  const range = [schema.minimum ?? schema.exclusiveMinimum, schema.maximum ?? schema.exclusiveMaximum];
  const shown = range.some((value) => value !== undefined) ? `, ${range[0] ?? ""}–${range[1] ?? ""}` : "";
  return `${schema.type === "array" ? "files" : schema.type ?? ""}${shown}`;
}

function show(path, verb, route) {
  const section = make("section");
  const title = make("h2");
  title.append(make("span", `${verb.toUpperCase()} `, "verb"), path);
  section.append(title, make("p", route.description ?? route.summary ?? ""));
  const form = route.requestBody?.content?.["multipart/form-data"]?.schema?.properties;
  if (form) {
    const rows = Object.entries(form).map(([name, schema]) => [name, kindOf(schema), String(schema.default ?? ""), schema.description ?? ""]);
    section.append(table(["field", "values", "default", "meaning"], rows));
  }
  const answers = Object.entries(route.responses ?? {}).map(([status, answer]) => [status, answer.description ?? ""]);
  section.append(make("h3", "Answers"), table(["status", "meaning"], answers));
  return section;
}

document.querySelectorAll(".origin").forEach((span) => { span.textContent = window.location.origin; });
const description = await (await fetch("openapi.json")).json();
document.getElementById("about").textContent = description.info.description;
for (const [path, verbs] of Object.entries(description.paths)) {
  for (const [verb, route] of Object.entries(verbs)) document.getElementById("routes").append(show(path, verb, route));
}
