"""The other side of the benchmark: rembg in its own interpreter, told over pipes what to do.

Reads one path per line, answers with the seconds that bytes → PNG bytes took. It imports nothing of Cutray, because
it runs in an environment where only rembg is installed. ``python rembg_worker.py MODEL``
"""

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    from rembg import new_session, remove

    session = new_session(sys.argv[1], providers=["CPUExecutionProvider"])
    print("ready", flush=True)
    for line in sys.stdin:
        data = Path(line.strip()).read_bytes()
        started = time.perf_counter()
        remove(data, session=session)
        print(time.perf_counter() - started, flush=True)
