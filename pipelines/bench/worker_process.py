"""A program that cuts out photos in a process of its own, loaded once and told over pipes what to do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from cutray.errors import EngineError
from pipelines.bench.memory import peak_memory

_REMBG_WORKER = Path(__file__).with_name("rembg_worker.py")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one photo took.

    Attributes:
        seconds: From the photo's bytes to those of the result.
        peak_bytes: Most memory that the process has held so far; 0 where the system does not tell.
    """

    seconds: float
    peak_bytes: int


class WorkerProcess:
    """A worker that lives through a whole benchmark.

    It prints ``ready``. Then it answers each line of JSON, ``{"photo", "output", "matting"}``, with the seconds from
    the photo's bytes to those of the result.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start the program and wait until it is loaded.

        Args:
            command: The program and its arguments.
            environment: Its variables in addition to those of this process.

        Raises:
            EngineError: It ends instead; the message is the last line that it printed.
        """
        self._name = Path(command[1]).stem
        # A file, not a pipe: a pipe that nobody reads is full after some warnings, and the worker would hang.
        self._told = TemporaryFile("w+")  # noqa: SIM115, it lives as long as the worker
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._read()

    def cut_out(self, photo: Path, *, output: Path | None = None, matting: bool = False) -> Answer:
        """Have one photo cut out.

        Args:
            photo: Its file.
            output: Where the result is written, outside the time; None drops it.
            matting: Ask rembg for alpha matting.

        Raises:
            EngineError: The program ended.
        """
        assert self._process.stdin is not None  # for the type checker
        order = {"photo": str(photo), "output": None if output is None else str(output), "matting": matting}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Answer(float(self._read()), peak_memory(self._process.pid))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> str:
        """Read one line, or say why there is none."""
        assert self._process.stdout is not None  # for the type checker
        line = self._process.stdout.readline().strip()
        if not line:
            self._process.communicate()
            self._told.seek(0)
            told = self._told.read().strip().splitlines()
            raise EngineError(
                got=f"{self._name} failed: {told[-1] if told else 'it ended'}", fix="run `make bench` to set it up"
            )
        return line


def start_rembg(python: Path, model: str, weights: Path) -> WorkerProcess:
    """Start rembg with weights that are used here.

    Args:
        python: Interpreter that has rembg.
        model: rembg's name of the model.
        weights: The file. rembg does not check its hash: a copy of IS-Net has another one than its own.

    Raises:
        EngineError: rembg fails.
    """
    with TemporaryDirectory(prefix="cutray-rembg-") as folder:
        (Path(folder) / f"{model}.onnx").symlink_to(weights.resolve())
        environment = {"U2NET_HOME": folder, "MODEL_CHECKSUM_DISABLED": "1"}
        return WorkerProcess([str(python), str(_REMBG_WORKER), model], environment)
