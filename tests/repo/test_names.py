"""Words that the project once made up for itself do not come back: a reader of the field knows others."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Old name → today's. Only names that are no words of plain English in this spelling.
RENAMED = {
    r"(?:class|->|import) Looks|Looks\(": "TTARunner",
    r"(?:class|->|import) Seen|Seen\(": "Prediction",
    r"average_looks": "average",
    r"fuse_looks": "blend_crop",
    r"shows_detail": "has_resolution",
    r"_cleared": "apply_see_through",
    r"level_probs": "rescale_probs",
    r"stretch_levels": "upsample_alpha",
    r"misfit": "laplacian_product",
    r"_descend": "conjugate_gradient",
    r"squash": "sigmoid",
    r"(?:class|->|import) Drawn|Drawn\(": "RefinerOutput",
    r"_SHY": "_GATE_BIAS",
    r"Board|ProgressBoard": "ProgressActor",
    r"restore_norms": "batchnorm.recalibrate",
    r"rate_at": "lr_factor",
    r"as_tensors": "to_device_batch",
    r"deep_loss": "deep_supervision_loss",
    r"share_of": "shard_rows",
    r"free_part": "background_crop",
    r"Recipe": "CalibrationStats",
    r"free_batch": "make_batch_dynamic",
    r"Raster": "RawImage",
    r"Wishes|Orders|Rules": "BatchJob",
    r"Tally": "BatchProgress",
    r"Ledger": "CrashTracker",
    r"Quarantine": "SoloGate",
    r"sole_writer": "exclusive_lock",
    r"CountedFile": "HashingWriter",
    r"carry_on": "pin_precision",
    r"_stubborn": "_retry",
    r"RememberingEngine": "CachedEngine",
    r"Door": "LoadShedder",
    r"dropin": "compat_routes",
    r"one_of_each": "with_single_replicas",
    r"give_way": "lower_priority",
    r"from pipelines\.(?:bench_\w+|detector|refiner|edges|servers|load)\b": "pipelines.bench and friends",
}
# The same for names that are words of plain English elsewhere: no class and no function has them.
RENAMED_DEFINITIONS = {
    "opaque": "flatten_on_white",
    "_PULL": "_LAMBDA",
    "trust": "prior_weight",
    "_carry": "guided_upsample",
    "Linear": "LogisticModel",
    "explain": "feature_contributions",
    "blindly": "unconditional",
    "redraw": "predict",
    "choice": "gate_logits",
    "Worker": "Trainer",
    "core": "model",
    "mixed": "interpolate_weights",
    "vary": "augment",
    "develop": "photometric",
    "Stage": "SceneContext",
    "balance": "smooth_scales",
    "faithful": "allowed_precisions",
    "sniff": "detect_format",
    "deep": "uint16",
    "shrink": "resize_area",
    "Found": "FileInfo",
    "Watch": "ConsoleCallback",
    "outcomes": "trial_results",
    "confirm": "evaluate_held_out",
    "Room": "CapacityHeader",
    "Guard": "RequestLimits",
    "Keys": "ApiKeyAuth",
    "facts": "result_headers",
    "Preparation": "PreprocessSpec",
    "Refusal": "ErrorReply",
}
# Old file → what took its place in the same folder, or above.
RENAMED_FILES = {
    "platform/cutray/matting/looks.py": "tta.py",
    "platform/cutray/data/stream.py": "loading.py",
    "platform/cutray/data/scenes": "synthetic/",
    "platform/cutray/training/norms.py": "batchnorm.py",
    "platform/cutray/models/digests.py": "hashing.py",
    "platform/cutray/models/tensors.py": "state_dicts.py",
    "platform/cutray/models/recipes.py": "int8_stats.py",
    "platform/cutray/imaging/sniff.py": "detect_format.py",
    "platform/cutray/imaging/bounds.py": "limits.py",
    "pipelines/batch/cluster.py": "ray_pool.py",
    "pipelines/batch/forward.py": "shared_engine.py",
    "pipelines/batch/tables.py": "parquet_source.py",
    "pipelines/batch/tars.py": "tar_source.py",
    "pipelines/sweep/watch.py": "console_callback.py",
    "pipelines/sweep/outcomes.py": "trial_results.py",
    "serve_apps/plan.py": "config_file.py",
    "serve_apps/remover/dropin.py": "compat_routes.py",
}
KEPT = {"tests/repo/test_names.py"}


@pytest.fixture(scope="module")
def code() -> dict[str, str]:
    """Return the text of every file of code that git knows, by name."""
    names = subprocess.run(
        ["git", "ls-files", "*.py", "*.yaml", "*.yml", "*.toml", "*.js", "*.html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return {name: (ROOT / name).read_text() for name in names if name and name not in KEPT}


@pytest.mark.parametrize("old", RENAMED)
def test_old_name_is_gone(old: str, code: dict[str, str]) -> None:
    """No identifier has the old name."""
    pattern = re.compile(rf"(?<![\w-])(?:{old})(?![A-Za-z_-])")
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        for name, text in code.items()
        for match in pattern.finditer(text)
    ]
    assert not found, f"the name is {RENAMED[old]} today"


@pytest.mark.parametrize("old", RENAMED_DEFINITIONS)
def test_old_definition_is_gone(old: str, code: dict[str, str]) -> None:
    """No class and no function of the package has the old name."""
    pattern = re.compile(rf"^\s*(?:async def|def|class) {old}\b|^{old}(?:: [^=\n]+)? = ", re.MULTILINE)
    python = {name: text for name, text in code.items() if name.endswith(".py") and not name.startswith("tests/")}
    found = [name for name, text in python.items() if pattern.search(text)]
    assert not found, f"the name is {RENAMED_DEFINITIONS[old]} today"


@pytest.mark.parametrize("old", RENAMED_FILES)
def test_old_file_is_gone(old: str, code: dict[str, str]) -> None:
    """No file or folder has the old name, and what took its place is there."""
    assert not (ROOT / old).exists()
    today = RENAMED_FILES[old]
    assert any(f"/{today}" in name for name in code), f"{today} is not there"
