"""The other side of the benchmarks: rembg in its own interpreter, told over pipes what to do; see ``WorkerProcess``.

It imports nothing of Cutray, because it runs in an environment where only rembg is installed.
``python rembg_worker.py MODEL``
"""

import json
import re
import sys
import time
from pathlib import Path


def peak_bytes() -> int:
    """Return the most memory that this process has held, which the parent's peak has no part in; 0 if unknown."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) << 10 if found else 0


if __name__ == "__main__":
    from rembg import new_session, remove

    session = new_session(sys.argv[1], providers=["CPUExecutionProvider"])
    answers, sys.stdout = sys.stdout, sys.stderr  # its solver prints warnings, which are no answers
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        data = Path(order["photo"]).read_bytes()
        started = time.perf_counter()
        result = remove(data, session=session, alpha_matting=order["matting"])
        seconds = time.perf_counter() - started
        if order["output"]:
            Path(order["output"]).write_bytes(result)
        print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}), file=answers, flush=True)
