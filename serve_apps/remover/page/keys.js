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
    const term = document.createElement("dt");
    keys.filter((key) => !/^Ctrl\+[YZ]$/.test(key)).forEach((key) => {
      const cap = document.createElement("kbd");
      cap.textContent = NAMES[key] ?? key.replace("Ctrl+", "Ctrl ").toUpperCase().replace("CTRL", "Ctrl");
      term.append(cap, " ");
    });
    const meaning = document.createElement("dd");
    meaning.textContent = label;
    $("keys").append(term, meaning);
  }
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.defaultPrevented || $("help").open || event.target.closest?.(FIELDS)) return;
    const name = `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.key.length === 1 && !(event.ctrlKey && event.shiftKey) ? event.key.toLowerCase() : event.key}`;
    const row = table.find(([keys, , action]) => action && keys.includes(name));
    if (!row || row[2](event) === false) return;
    event.preventDefault();
  });
  $("help-open").addEventListener("click", () => $("help").showModal());
  $("help").addEventListener("click", (event) => { if (event.target === $("help")) $("help").close(); });
}

const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", PageUp: "Page ↑", PageDown: "Page ↓", "-": "−", Escape: "Esc", Enter: "Enter", Delete: "Del", " ": "Space" };
