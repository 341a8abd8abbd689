"""The other side of the benchmark: rembg in its own interpreter, told over pipes what to do.

Reads one path per line, answers with the seconds that bytes → PNG bytes took; ``matting:`` before the path asks for
alpha matting. It imports nothing of Cutray, because it runs in an environment where only rembg is installed.
``python rembg_worker.py MODEL``
"""

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    from rembg import new_session, remove

    session = new_session(sys.argv[1], providers=["CPUExecutionProvider"])
    answers, sys.stdout = sys.stdout, sys.stderr  # its solver prints warnings, which are no answers
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        name = line.strip()
        data = Path(name.removeprefix("matting:")).read_bytes()
        started = time.perf_counter()
        remove(data, session=session, alpha_matting=name.startswith("matting:"))
        print(time.perf_counter() - started, file=answers, flush=True)
