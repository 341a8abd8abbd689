"""Checks of the page that take too long, or need more, for `make test`: accessibility, memory, the time of a stroke.

Each wants the address of a running endpoint, such as `cutray serve`; `npm pack axe-core` fetches axe.min.js:

    python -m tests.page_checks axe http://127.0.0.1:8000 photo.jpg --axe package/axe.min.js
    python -m tests.page_checks memory http://127.0.0.1:8000 photo.jpg
    python -m tests.page_checks strokes http://127.0.0.1:8000 photo-of-12-megapixels.jpg
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tests.browser import DESKTOP, PHONE, add_photos, open_part, opened, started, stroke

_PHOTOS, _STROKES = 50, 200


def check_axe(browser: Any, url: str, photo: Path, axe: Path) -> bool:
    """Ask axe-core about every part of the page, in both widths, light and dark; print what is serious."""
    found = 0
    for size in (PHONE, DESKTOP):
        for scheme in ("light", "dark"):
            with opened(browser, url, size, color_scheme=scheme, bypass_csp=True) as tab:
                found += _ask_axe(tab, axe, f"{size[0]} {scheme}, empty")
                add_photos(tab, photo)
                for part in ("tools", "background", "layout", "save"):
                    open_part(tab, part)
                    found += _ask_axe(tab, axe, f"{size[0]} {scheme}, {part}")
                tab.keyboard.press("?")
                found += _ask_axe(tab, axe, f"{size[0]} {scheme}, keys")
    print(f"{found} serious faults")
    return found == 0


def _ask_axe(tab: Any, axe: Path, state: str) -> int:
    """Return how many serious or critical faults a state of the page has."""
    tab.add_script_tag(path=str(axe))
    faults = [fault for fault in tab.evaluate("axe.run()")["violations"] if fault["impact"] in ("serious", "critical")]
    for fault in faults:
        print(f"{state}: {fault['id']}: {fault['help']}: {[node['target'] for node in fault['nodes']]}")
    return len(faults)


def check_memory(browser: Any, url: str, photo: Path) -> bool:
    """Add and remove photos, then draw strokes; print memory, which must not grow with their number."""
    with opened(browser, url, DESKTOP) as tab:
        meter = tab.context.new_cdp_session(tab)

        def measure(step: str) -> tuple[float, float]:
            meter.send("HeapProfiler.collectGarbage")
            heap = meter.send("Runtime.getHeapUsage")["usedSize"] / 2**20
            chromes = [p for p in psutil.Process().children(recursive=True) if "chrom" in p.name()]
            whole = sum(process.memory_info().rss for process in chromes) / 2**20
            print(f"{step}: heap {heap:.1f} MiB, browser {whole:.0f} MiB", flush=True)
            return heap, whole

        rows = []
        for number in range(1, _PHOTOS + 1):
            add_photos(tab, photo)
            tab.locator("#photos .remove").first.click(force=True)
            tab.wait_for_function("() => !document.querySelector('#photos li')")
            if number % 10 == 0:
                rows.append(measure(f"{number} photos"))
        add_photos(tab, photo)
        tab.click("[data-tool=keep]")
        marked = []
        for number in range(1, _STROKES + 1):
            stroke(tab, (0.1 + 0.004 * number, 0.4), (0.1 + 0.004 * number, 0.6))
            if number % 50 == 0:
                marked.append(measure(f"{number} strokes"))
    return all(series[-1][0] < series[0][0] + 8 and series[-1][1] < 1.2 * series[0][1] for series in (rows, marked))


def check_strokes(browser: Any, url: str, photo: Path) -> bool:
    """Draw twenty strokes; print how long each takes from the finger's lift to the new picture."""
    spent = []
    with opened(browser, url, DESKTOP) as tab:
        add_photos(tab, photo)
        for tool, row in (("keep", 0.5), ("drop", 0.1)):
            tab.click(f"[data-tool={tool}]")
            for number in range(10):
                column = 0.1 + 0.08 * number
                spent.append(stroke(tab, (column, row), (column + 0.02, row + 0.02)))
    print(f"stroke: median {statistics.median(spent):.3f} s, longest {max(spent):.3f} s")
    return statistics.median(spent) < 0.5


def main() -> int:
    """Run one check; 0 if it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", choices=("axe", "memory", "strokes"))
    parser.add_argument("url")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--axe", type=Path, help="axe.min.js of the npm package axe-core")
    wanted = parser.parse_args()
    if (wanted.check == "axe") != (wanted.axe is not None):
        parser.error("--axe belongs to the check axe, and is needed there")
    begin = time.monotonic()
    with started() as browser:
        if wanted.check == "axe":
            holds = check_axe(browser, wanted.url, wanted.photo, wanted.axe)
        else:
            holds = {"memory": check_memory, "strokes": check_strokes}[wanted.check](browser, wanted.url, wanted.photo)
    print(f"{'holds' if holds else 'does not hold'} ({time.monotonic() - begin:.0f} s)")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
