// The keyboard: one table of shortcuts, which is also what the list behind `?` shows.

const $ = (id) => document.getElementById(id);
const FIELDS = "input:not([type=radio], [type=range], [type=color], [type=file]), select, textarea";

/**
 * Listen to keys.
 *
 * `table` has rows of [keys, what they do, function]; keys are names as in KeyboardEvent.key, with "Ctrl+" before it where
 * Ctrl or the Mac's command key is held. A row without a function is shown alone.
 */
export function start(table) {
  for (const [keys, label] of table) {
    const term = label ? document.createElement("dt") : $("keys").lastElementChild.previousElementSibling; // more keys of the row above
    for (const key of keys) {
      const cap = document.createElement("kbd");
      cap.textContent = nameOf(key);
      term.append(cap, " ");
    }
    if (!label) continue;
    const meaning = document.createElement("dd");
    meaning.textContent = label;
    $("keys").append(term, meaning);
  }
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.defaultPrevented || $("help").open || event.target.closest?.(FIELDS)) return;
    if (event.target.closest?.("button, a, label, [type=radio]") && (event.key === "Enter" || event.key === " ")) return; // pressed by them
    const ctrl = event.ctrlKey || event.metaKey;
    const letter = event.key.length === 1 && !ctrl ? event.key.toLowerCase() : event.key;
    const name = `${ctrl ? "Ctrl+" : ""}${letter}`;
    const row = table.find(([keys, , action]) => action && keys.includes(name));
    if (!row || row[2](event) === false) return;
    event.preventDefault();
  });
  $("help-open").addEventListener("click", () => $("help").showModal());
  $("help").addEventListener("click", (event) => { if (event.target === $("help")) $("help").close(); });
}

const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", PageUp: "Page ↑", PageDown: "Page ↓", "-": "−", Escape: "Esc", Delete: "Del", " ": "Space" };

function nameOf(key) {
  const shifted = /^Ctrl\+[A-Z]$/.test(key) && key !== "Ctrl+V" ? "Shift " : "";
  return NAMES[key] ?? (key.startsWith("Ctrl+") ? `Ctrl ${shifted}${key.slice(5).toUpperCase()}` : key.length === 1 ? key.toUpperCase() : key);
}
