"""The kit for minutes on a GPU, rehearsed with tiny sizes and without Ray, MLflow and the engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

from cutray.console.run import run
from cutray.errors import ConfigError, InputError
from pipelines.gpu_kit.cli import gpu_kit
from pipelines.gpu_kit.outbox import Outbox
from pipelines.gpu_kit.pack import LOAD_BYTES, pack_kit, receive
from pipelines.gpu_kit.parts import join_parts, loads, write_parts
from pipelines.gpu_kit.queue import read_queue
from tests.scenes import write_pairs
from tests.training import environment

ROOT = Path(__file__).parents[2]
SIDE = 32
QUEUE: dict[str, Any] = {
    "measure": {
        "sides_px": [SIDE],
        "batches": [1],
        "train_batch": 2,
        "product_px": 64,
        "photo_px": [96, 72],
        "photo_runs": 1,
        "compile_loss": False,
        "compile_batches": [],
    },
    "train": [
        {
            "name": "tiny",
            "preset": "u2netp",
            "data": ["drawn"],
            "share": 50,
            "settings": {
                "precision": "fp32",
                "threads_per_worker": 1,
                "data": {"side_px": SIDE, "cache": "ram", "validation_share": 0.3, "repeat": 2},
                "optim": {"batch_size": 2, "epochs": 1},
            },
        }
    ],
    "commands": [{"name": "words", "words": ["python", "-c", "open(r'{out}/a.txt', 'w').write('done')"]}],
}
# Of a plain image there are torch, NumPy, OpenCV, Pillow, safetensors and ONNX; click and pydantic come as wheels.
BARE = "import sys, runpy; sys.modules.update(dict.fromkeys({absent}))\nsys.argv[1:] = {words}\n"
BARE += "runpy.run_module('pipelines.gpu_kit', run_name='__main__')"
ABSENT = ("ray", "mlflow", "openvino", "onnxruntime", "isal", "optuna", "yaml", "matplotlib", "rich", "MNN", "scipy")


def _there(*words: object) -> dict[str, Any]:
    """Run a command as on the plain machine; return its last line as data."""
    script = BARE.format(absent=ABSENT, words=[str(word) for word in words])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment(OMP_NUM_THREADS="1"),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def test_packed_measured_learned_and_brought_back(tmp_path: Path) -> None:
    """A whole stay: what comes back says what the machine does, and the run that was begun there goes on here."""
    (tmp_path / "queue.yaml").write_text(yaml.safe_dump(QUEUE))
    pairs, kit, work, out = (tmp_path / name for name in ("pairs", "kit", "work", "out"))
    write_pairs(pairs, 12, side_px=64)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "click-9-py3-none-any.whl").write_bytes(b"wheel")
    words = ["pack", kit, "--queue", tmp_path / "queue.yaml", "--data", f"drawn={pairs}", "--side", SIDE]
    words += ["--wheels", tmp_path / "wheels"]
    assert run(gpu_kit, list(map(str, words))) == 0
    assert (kit / "load-1" / "click-9-py3-none-any.whl").read_bytes() == b"wheel"
    assert _there("receive", *sorted(kit.iterdir()), "--work", work)["incomplete"] == []
    assert len(list((work / "data" / "drawn" / "images").glob("*.webp"))) == 12
    facts = _there("run", "--work", work, "-o", out, "--seconds", 3000)
    assert (facts["done"], facts["failed"]) == (["machine", "chain", "measure", "tiny", "words"], {})
    report = json.loads((out / "report.json").read_text())
    assert [row["job"] for row in report["done"]["measure"]["rows"]] == ["run", "serve", "train"]
    chain = report["done"]["chain"]
    assert [row["way"] for row in chain["rows"]] == ["plain", "resident"]
    assert all({"decode", "segment", "matte", "render", "encode"} <= row["stages_ms"].keys() for row in chain["rows"])
    assert list(chain["decoding_ms"]) == ["processor"]  # nvJPEG needs a GPU
    assert report["done"]["tiny"]["steps"] >= 1
    page = (out / "measure.md").read_text()
    assert "| train | u2netp | 32 | 2 |" in page
    assert "| resident | u2netp-distilled | 96 × 72 |" in page
    # What may come back at once: 8 files of 16 MiB each, 64 MiB in all.
    back = [file.stat().st_size for file in out.iterdir()]
    assert len(back) <= 8 and max(back) <= 16 << 20 and sum(back) <= 64 << 20
    assert _there("send", "--work", work, "-o", tmp_path / "more")["left"] == 0
    assert run(gpu_kit, ["join", str(out), "-o", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs" / "words" / "a.txt").read_text() == "done"
    run_dir = tmp_path / "runs" / "tiny"
    assert "waiting for data" in (run_dir / "profile.md").read_text()
    assert json.loads((tmp_path / "runs" / "tiny-trace" / "trace.json").read_text())["traceEvents"]
    assert json.loads((run_dir / "history.json").read_text()) == report["done"]["tiny"]["history"]

    again = pack_kit(
        tmp_path / "kit2", queue=work / "queue.json", data=[("drawn", pairs)], runs=[run_dir], side_px=SIDE
    )
    receive(again, tmp_path / "work2")
    from pipelines.gpu_kit.session import Session

    queue = json.loads((tmp_path / "work2" / "queue.json").read_text())
    queue["train"][0]["settings"]["optim"]["epochs"] = 2
    (tmp_path / "work2" / "queue.json").write_text(json.dumps({**queue, "measure": None, "commands": []}))
    (tmp_path / "out2").mkdir()
    second = Session(tmp_path / "work2", tmp_path / "out2", 3000).run()
    assert second["failed"] == {}
    assert second["done"]["tiny"]["history"][:1] == report["done"]["tiny"]["history"]
    assert second["done"]["tiny"]["steps"] == 2 * report["done"]["tiny"]["steps"]


def test_a_load_and_the_code_fit_into_one_transfer() -> None:
    """What travels at once is 64 MiB at most: all that git tracks, and a load."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert sum(file.stat().st_size for file in files if file.is_file()) + LOAD_BYTES < 64 << 20


def test_one_line_is_typed_there(tmp_path: Path) -> None:
    """The script of a load takes it in and, given a time, does the queue; what comes back is in the folder named."""
    (tmp_path / "queue.json").write_text(json.dumps({"commands": QUEUE["commands"]}))
    (load,) = pack_kit(tmp_path / "kit", queue=tmp_path / "queue.json")
    words = ["sh", str(load / "there.sh"), str(tmp_path / "out"), "60"]
    own = environment(PYTHON=sys.executable, WORK=str(tmp_path / "work"))
    done = subprocess.run(words, capture_output=True, text=True, env=own, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(json.loads((tmp_path / "out" / "report.json").read_text())["done"]) == ["machine", "words"]
    files, _ = join_parts([tmp_path / "out"], tmp_path / "joined")
    assert len(files) == 1


def test_parts_are_whole_or_refused(tmp_path: Path) -> None:
    """Parts in any order make the file again; one that is missing is named, one that is damaged is an error."""
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 20)
    parts = write_parts(source, "a/b.bin", tmp_path / "one", 2048)
    assert len(parts) == 4
    assert max(part.stat().st_size for part in parts) <= 2048
    assert [len(group) for group in loads(parts, 4096)] == [2, 2]
    files, missing = join_parts([tmp_path / "one"], tmp_path / "joined")
    assert (missing, files[0].read_bytes()) == ([], source.read_bytes())
    parts[1].write_bytes(parts[1].read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="damaged"):
        join_parts([tmp_path / "one"], tmp_path / "again")
    parts[1].unlink()
    assert join_parts([tmp_path / "one"], tmp_path / "again") == ([], ["a/b.bin"])


def test_of_two_files_of_one_name_the_later_one_holds(tmp_path: Path) -> None:
    """A second kit's queue takes the place of the first one's, however many parts each has."""
    for number, content in enumerate((b"old" * 2000, b"new" * 1000, b"newest" * 2000)):
        (tmp_path / "source").write_bytes(content)
        for part in write_parts(tmp_path / "source", "queue.json", tmp_path / str(number), 2048):
            os.utime(part, ns=(number, number))
    files, missing = join_parts([tmp_path / "2", tmp_path / "0", tmp_path / "1"], tmp_path / "joined")
    assert missing == []
    assert files[0].read_bytes() == b"newest" * 2000


def test_a_part_cannot_write_elsewhere(tmp_path: Path) -> None:
    """A name that leads out of the folder is refused."""
    (tmp_path / "source").write_bytes(b"x")
    write_parts(tmp_path / "source", "../out", tmp_path / "one")
    with pytest.raises(InputError, match="below the folder"):
        join_parts([tmp_path / "one"], tmp_path / "target")


def test_a_call_brings_six_parts(tmp_path: Path) -> None:
    """What does not fit waits for the next call, in order."""
    (tmp_path / "a").write_bytes(b"x")
    outbox = Outbox(tmp_path / "outbox")
    for number in range(8):
        outbox.add(f"run{number}", {"a": tmp_path / "a"})
    assert outbox.send(tmp_path / "first") == 2
    assert len(list((tmp_path / "first").iterdir())) == 6
    assert Outbox(tmp_path / "outbox").send(tmp_path / "second") == 0
    assert len(list((tmp_path / "second").iterdir())) == 2


def test_a_queue_is_checked_where_it_is_packed(tmp_path: Path) -> None:
    """Unknown settings and equal names are found before anything travels."""
    path = tmp_path / "queue.yaml"
    path.write_text(yaml.safe_dump({"train": [{"name": "a", "settings": {"optim": {"ratee": 1}}}]}))
    with pytest.raises(ConfigError, match="ratee"):
        read_queue(path)
    path.write_text(yaml.safe_dump({"commands": [{"name": "a", "words": ["python"]}] * 2}))
    with pytest.raises(ConfigError, match="a name of its own"):
        read_queue(path)
