"""A photo for which memory runs out is an error of that photo; the remover goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The system grants a little more than is held, once all is loaded.
LIMITED = """
import resource
import numpy as np
from cutray import BackgroundRemover
from cutray.errors import ImageTooLargeError

remover = BackgroundRemover()
small = np.full((60, 80, 3), 200, np.uint8)
large = np.full((6000, 8000, 3), 200, np.uint8)
large[1000:5000, 2000:6000] = (200, 30, 30)
remover.remove_background(small)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (250 << 20), resource.RLIM_INFINITY))
try:
    remover.remove_background(large)
except ImageTooLargeError as error:
    print(error)
print(remover.remove_background(small).mask.shape)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which grants a process no more memory than was set")
def test_one_photo_that_lacks_memory_is_told(tmp_path: object) -> None:
    """What Python, OpenCV or an engine say of it is no traceback, and the next photo is done."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told, shape = done.stdout.splitlines()
    assert "more memory than there is" in told
    assert shape == "(60, 80)"
