"""Takes the README and the pages of docs/ apart: their code blocks, and what they say about running them.

A block that stands alone is run by `tests/e2e/test_pages.py`. A comment in the line above it says otherwise:
``<!-- run: training -->`` names the group of tests that runs it, ``<!-- not run: it needs a cluster -->`` says why
no test does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.is_file()]
FOLDER_PAGES = sorted(ROOT.glob("*/README.md"))
RUNNABLE = ("sh", "python")
# Group → the test that runs its blocks.
GROUPS = {
    "quick": "tests/e2e/test_pages.py",
    "serving": "tests/integration/test_serve_docs.py",
    "serving with keys": "tests/integration/test_serve_docs.py",
    "serving with models": "tests/integration/test_serve_models.py",
    "jobs": "tests/integration/test_serve_docs.py",
    "rollout": "tests/fault/test_rollout.py",
    "batch": "tests/integration/test_batch_docs.py",
}

_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<how>run|not run): (?P<what>[^\n]*?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        page: Its page, relative to the repository's root.
        line: Number of its first line.
        language: What stands behind the opening fence: ``sh``, ``python``, ``yaml`` …
        text: The lines between the fences.
        group: Which tests run it; empty if none does.
        reason: Why no test runs it; empty if one does.
    """

    page: str
    line: int
    language: str
    text: str
    group: str
    reason: str

    @property
    def name(self) -> str:
        """Name the block in a test's id: page and line."""
        return f"{self.page}:{self.line}"


def blocks(*languages: str, group: str | None = None) -> list[Block]:
    """Return the code blocks of all pages.

    Args:
        languages: Only these languages; all of them if none is given.
        group: Only the blocks that this group of tests runs.
    """
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            how, what = match["how"], match["what"] or ""
            found.append(
                Block(
                    page=page.relative_to(ROOT).as_posix(),
                    line=text.count("\n", 0, match.start("text")) + 1,
                    language=match["language"],
                    text=re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
                    group="" if how == "not run" else what or "quick",
                    reason=what if how == "not run" else "",
                )
            )
    wanted = [block for block in found if not languages or block.language in languages]
    return [block for block in wanted if group is None or block.group == group]


def commands(block: Block) -> list[str]:
    """Return the commands of a block of shell, one a line, without comments; continued lines are joined."""
    lines = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    bare = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [line for line in bare if line]


def run_block(block: Block, folder: Path, timeout_s: float = 900, **environment: str) -> str:
    """Run a block as a reader would, in a folder that is not the repository's, and return what it printed.

    `pip install` does nothing: all extras are there already, and another test checks their names.

    Args:
        block: Of shell or Python.
        folder: Where to run it; holds the photos that the block names.
        timeout_s: Generous: nothing is measured here.
        environment: More variables.

    Raises:
        AssertionError: A command failed; with all that was printed.
    """
    bin_folder = Path(sys.executable).parent
    if block.language == "python":
        command = [sys.executable, "-c", block.text]
    else:
        command = ["bash", "-euo", "pipefail", "-c", f"pip() {{ :; }}\n{block.text}"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
        check=False,
    )
    shown = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{block.name} ended with {done.returncode}:\n{block.text}\n{shown}"
    assert "Traceback" not in shown, shown
    return shown
