"""Our side of a benchmark in which every row has a process of its own; see ``WorkerProcess``.

``python cutray_worker.py SETTINGS`` with the remover's settings as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from cutray.config import RemoverSettings, parse_settings
from cutray.freed_memory import keep_freed_memory
from cutray.imaging.files import write_atomically
from cutray.remover import BackgroundRemover


def main() -> None:
    """Cut out the photos that are named on standard input."""
    keep_freed_memory()
    remover = BackgroundRemover.from_settings(parse_settings(RemoverSettings, json.loads(sys.argv[1])))
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        data = Path(order["photo"]).read_bytes()
        started = time.perf_counter()
        removal = remover.remove_background(data)
        seconds = time.perf_counter() - started
        if order["output"]:
            write_atomically(Path(order["output"]), removal.data, overwrite=True)
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
