"""Spends a given time on a machine: checks it, measures, learns what is queued, and leaves all that is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cutray.config import TrainSettings, parse_settings
from cutray.imaging.files import write_atomically
from pipelines.gpu_kit.outbox import Outbox
from pipelines.gpu_kit.pack import QUEUE_FILE
from pipelines.gpu_kit.queue import CommandItem, MeasureSettings, Queue, TrainItem, read_queue

REPORT_FILE = "report.json"
# Kept back of the time: validation of the last epoch, checkpoints, parts.
_RESERVE_S, _RESERVE_SHARE = 45.0, 0.15
_LEAST_ITEM_S = 1.0


class Session:
    """One stay on a machine."""

    def __init__(self, work: Path, output: Path, budget_s: float) -> None:
        """Begin; the time counts from here.

        Args:
            work: Folder that ``receive`` has filled.
            output: Empty folder whose files come back.
            budget_s: How long it may take.
        """
        self._until = time.monotonic() + budget_s - min(_RESERVE_S, _RESERVE_SHARE * budget_s)
        self._work, self._output = work.resolve(), output.resolve()
        self._outbox = Outbox(self._work / "outbox")
        self._pages: dict[str, list[str]] = {}
        self.report: dict[str, Any] = {"budget_s": budget_s, "done": {}, "failed": {}}

    def run(self) -> dict[str, Any]:
        """Do all of the queue for which there is time; what fails is noted, and the rest is done."""
        queue = read_queue(self._work / QUEUE_FILE)
        self._do("machine", lambda: check_machine(queue))
        if queue.measure is not None:
            wanted = queue.measure
            self._do("chain", lambda: self._chain(wanted))
            self._do("measure", lambda: self._measure(wanted))
        items: list[TrainItem | CommandItem] = [*queue.train, *queue.commands]
        for place, item in enumerate(items):
            left, rest = self._until - time.monotonic(), sum(one.share for one in items[place:])
            share_s = left * item.share / rest
            if share_s < _LEAST_ITEM_S:
                self.report["failed"][item.name] = "no time was left"
                continue
            self._do(item.name, lambda item=item, share_s=share_s: self._item(item, share_s))  # type: ignore[misc]
        for item in queue.train:  # after all that is missed more
            self._outbox.add_trace(self._work / "runs" / item.name)
        self._write()
        self._outbox.send(self._output)
        return self.report

    def _do(self, name: str, job: Callable[[], Any]) -> None:
        """Do one thing and note what came of it."""
        started = time.monotonic()
        try:
            facts = job()
        except Exception as error:  # the edge of a job: one item must not cost the others their minutes
            self.report["failed"][name] = f"{error}\n{traceback.format_exc(limit=-3)}"
        else:
            self.report["done"][name] = {"seconds": time.monotonic() - started, **(facts or {})}
        click.echo(f"{name}: {'failed' if name in self.report['failed'] else 'done'}", err=True)
        self._write()

    def _write(self) -> None:
        """Write down what is known so far; a stay that is cut short leaves it."""
        write_atomically(self._output / REPORT_FILE, json.dumps(self.report, indent=1).encode(), overwrite=True)

    def _measure(self, wanted: MeasureSettings) -> dict[str, Any]:
        """Measure while its time lasts; what is known is written down after each figure."""
        from cutray.training.measure import matrix_product
        from pipelines.bench.networks import figures_table
        from pipelines.gpu_kit.measure import network_measurements

        device, rows = _device(), []
        until = min(self._until, time.monotonic() + wanted.seconds)
        peak = matrix_product(device, wanted.product_px)
        for number, measure in enumerate(network_measurements(wanted, device)):
            if time.monotonic() > until:
                break
            try:
                rows.append(measure())
            except Exception as error:  # too little memory for one size, or a compiler that is missing, is no end
                self.report["failed"][f"measurement {number}"] = str(error)
                continue
            self._pages["networks"] = figures_table(rows, peak)
            self._write_pages()
        return {"product_tflops": peak, "rows": [asdict(row) for row in rows]}

    def _chain(self, wanted: MeasureSettings) -> dict[str, Any]:
        """Measure a photo's way from file to file."""
        from pipelines.gpu_kit.measure import measure_chain

        figures, self._pages["chain"] = measure_chain(wanted, _device())
        self._write_pages()
        return figures

    def _write_pages(self) -> None:
        """Write down what was measured so far."""
        text = "\n\n".join("\n".join(lines) for lines in self._pages.values()) + "\n"
        write_atomically(self._output / "measure.md", text.encode(), overwrite=True)

    def _item(self, item: TrainItem | CommandItem, share_s: float) -> dict[str, Any]:
        """Do one item of the queue and put what it leaves into the outbox."""
        return self._train(item, share_s) if isinstance(item, TrainItem) else self._command(item, share_s)

    def _train(self, item: TrainItem, share_s: float) -> dict[str, Any]:
        """Train for a share of the time, or go on with a run that was brought."""
        from cutray.training.checkpoints import newest_whole
        from cutray.training.local import fit_here

        run_dir = self._work / "runs" / item.name
        before = newest_whole(run_dir)[0]
        minutes = (share_s + (before.state.seconds if before else 0.0)) / 60
        values = item.settings.model_dump()
        values |= {"name": item.name, "save_dir": str(run_dir.parent), "tracking_uri": "none", "max_minutes": minutes}
        values["profile"] = str(run_dir / "profile")
        if item.data:
            values["data"]["folders"] = [str(self._work / "data" / name) for name in item.data]
        pace: list[float] = []
        result = fit_here(
            parse_settings(TrainSettings, values),
            callbacks=[lambda latest: pace.append(latest["images_per_s"]) if "images_per_s" in latest else None],
        )
        self._outbox.add_run(run_dir)
        state = result.state
        return {
            "steps": state.total_steps,
            "best": state.best_score,
            "history": state.history,
            "images_per_s": pace[-1] if pace else 0.0,
        }

    def _command(self, item: CommandItem, share_s: float) -> dict[str, Any]:
        """Run a command for a share of the time."""
        out = self._work / "results" / item.name
        out.mkdir(parents=True, exist_ok=True)
        words = [word.format(work=self._work, out=out) for word in item.words]
        words[0] = sys.executable if words[0] == "python" else words[0]
        try:
            with (out / "log.txt").open("w") as log:
                subprocess.run(words, timeout=share_s, stdout=log, stderr=subprocess.STDOUT, check=True)
        finally:  # what a command had written before it failed or its time was up comes back, too
            files = {str(file.relative_to(out)): file for file in sorted(out.rglob("*")) if file.is_file()}
            self._outbox.add(item.name, files)
        return {"files": list(files)}


def check_machine(queue: Queue) -> dict[str, Any]:
    """Say what the machine is, and fail early where something that the queue needs is missing."""
    import torch

    from cutray.engines.hardware import read_cpu, usable_cores
    from cutray.models.weights import resolve

    for item in queue.train:
        for model in (item.settings.init, item.settings.teacher):
            if model:
                resolve(model, offline=True)
    device = _device()
    facts = {"torch": torch.__version__, "cpu": read_cpu()[0], "cores": usable_cores(), "device": device.type}
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        facts |= {"gpu": torch.cuda.get_device_name(), "free_gb": free / 1e9, "total_gb": total / 1e9}
    return facts


def _device() -> Any:
    """Return the GPU, or the processor where there is none."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
