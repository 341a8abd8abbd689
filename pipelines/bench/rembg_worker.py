"""The other side of the benchmarks: rembg in its own interpreter, told over pipes what to do; see ``WorkerProcess``.

It imports nothing of Cutray, because it runs in an environment where only rembg is installed.
``python rembg_worker.py MODEL``
"""

import json
import sys
import time
from pathlib import Path

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
        print(seconds, file=answers, flush=True)
