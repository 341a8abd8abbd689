"""Behaviour of the Markdown table and the HTML report."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutray.config import InputLimits
from cutray.errors import InputError, OutputError
from cutray.evaluation.datasets import find_samples
from cutray.evaluation.figures import difference_uri
from cutray.evaluation.metrics import score, summarise
from cutray.evaluation.report import METRICS, Case, ModelScores, markdown_table, write_html_report
from tests.alphas import perturb, scene

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collect links and check that every element is closed."""

    def __init__(self, text: str) -> None:
        """Parse a whole page."""
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.unclosed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element and its links."""
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Match the element that closes."""
        if not self.open or self.open.pop() != tag:
            self.unclosed.append(tag)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[ModelScores]:
    """Write a small tagged set and score a good and a poor model on it."""
    folder = tmp_path_factory.mktemp("set")
    for name in ("images", "masks", "tags", "sharp", "rough"):
        (folder / name).mkdir()
    for seed in range(6):
        truth = scene(seed)
        pixels = np.rint(truth * 255).astype(np.uint8)
        Image.fromarray(np.stack([pixels // 2 + 40] * 3, axis=2)).save(folder / "images" / f"s{seed}.jpg")
        Image.fromarray(pixels).save(folder / "masks" / f"s{seed}.png")
        for name, blur_px in (("sharp", 1.0), ("rough", 8.0)):
            alpha = perturb(truth, seed, blur_px)
            Image.fromarray(np.rint(alpha * 255).astype(np.uint8)).save(folder / name / f"s{seed}.png")
    (folder / "tags" / "fur.txt").write_text("s0\ns3\n")
    samples = find_samples(folder)
    return [
        ModelScores(
            name,
            [
                Case(sample, score(perturb(scene(seed), seed, blur_px), scene(seed)), folder / name / f"s{seed}.png")
                for seed, sample in enumerate(samples)
            ],
        )
        for name, blur_px in (("sharp", 1.0), ("rough", 8.0))
    ]


def test_table_holds_the_means_of_the_summary(models: list[ModelScores]) -> None:
    """Every number in the table is the one that summarise gives, with an interval around it."""
    summary = summarise([case.scores for case in models[0].cases])

    lines = markdown_table(models[:1]).splitlines()

    assert lines[0] == "| metric | sharp |"
    rows = {line.split(" | ")[0][2:-2]: line for line in lines[2:]}
    for name, metric in METRICS.items():
        if name.endswith("_band"):
            assert metric.label not in rows
            continue
        mean, low, high = map(float, re.findall(r"-?\d+\.\d+", rows[metric.label].split(" | ", 1)[1]))
        assert mean == pytest.approx(summary[name], abs=0.51 * 10**-metric.digits), name
        assert low <= mean <= high


def test_two_models_are_compared_in_pairs(models: list[ModelScores]) -> None:
    """The difference has its own, signed interval, which excludes 0 when one model is clearly worse."""
    line = markdown_table(models, metrics=["weighted_f"]).splitlines()[2]

    mean, low, high = (float(number) for number in re.findall(r"[+-]\d+\.\d+", line))
    assert low <= mean <= high < 0


def test_table_escapes_what_would_break_it(models: list[ModelScores]) -> None:
    """A bar in a model's name does not add a column."""
    table = markdown_table([ModelScores("a|b", models[0].cases)], metrics=["iou"])

    assert table.splitlines()[0] == r"| metric | a\|b |"


def test_page_needs_nothing_from_outside(models: list[ModelScores], tmp_path: Path) -> None:
    """All pictures are inside the page, no script or link leads out, and the markup is sound."""
    path = tmp_path / "deep" / "report.html"

    write_html_report(path, models, title="Set <1>", worst=2)

    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.unclosed == [] and page.open == []
    # Two cases of a photo, a truth and, for each of two models, a prediction and a difference.
    assert len(page.links) == 2 * 6
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert not re.search(r"https?:|<script|<link|@import|url\(", text)
    assert "Set &lt;1&gt;" in text


def test_page_shows_the_worst_cases_first(models: list[ModelScores], tmp_path: Path) -> None:
    """Cases come in order of their worst model's score, errors with the highest first."""
    for metric, sign in (("iou", 1), ("mae", -1)):
        path = tmp_path / f"{metric}.html"
        write_html_report(path, models, title="t", worst=3, rank_by=metric)

        worst = {
            case.sample.stem: min(sign * getattr(model.cases[i].scores, metric) for model in models)
            for i, case in enumerate(models[0].cases)
        }
        expected = sorted(worst, key=lambda stem: worst[stem])[:3]
        assert re.findall(r"<h3>(s\d)", path.read_text(encoding="utf-8")) == expected


def test_page_has_a_row_per_tag_and_model(models: list[ModelScores], tmp_path: Path) -> None:
    """The tag's row holds its number of pictures and their mean IoU."""
    path = tmp_path / "report.html"
    write_html_report(path, models, title="t", worst=0)

    for model in models:
        tagged = [case.scores for case in model.cases if "fur" in case.sample.tags]
        cells = f"<td>fur</td><td>{model.name}</td><td>2</td><td>{summarise(tagged)['iou']:.4f}</td>"
        assert cells in path.read_text(encoding="utf-8")


def test_page_without_predictions_or_tags_is_complete(models: list[ModelScores], tmp_path: Path) -> None:
    """A case without a saved prediction still shows its photo and truth."""
    bare = [Case(case.sample, case.scores) for case in models[0].cases if not case.sample.tags]
    path = tmp_path / "report.html"

    write_html_report(path, [ModelScores("bare", bare)], title="t", worst=1)

    text = path.read_text(encoding="utf-8")
    assert len(Page(text).links) == 2
    assert "By tag" not in text


def _of_photo(models: list[ModelScores], photo: Path) -> list[ModelScores]:
    """Return the scores of one case, without tags and predictions, whose photo is another file."""
    case = models[0].cases[1]
    return [ModelScores("bare", [Case(replace(case.sample, image=photo), case.scores)])]


def test_a_photo_that_cannot_be_read_is_left_out(models: list[ModelScores], tmp_path: Path) -> None:
    """It was scored, as an empty mask, so that the page shows the truth alone instead of failing after all work."""
    good = models[0].cases[1].sample.image
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8 no photo")
    path = tmp_path / "report.html"
    for photo in (tmp_path / "damaged.jpg", tmp_path / "gone.jpg"):
        write_html_report(path, _of_photo(models, photo), title="t")
        assert len(Page(path.read_text(encoding="utf-8")).links) == 1
    for limits, shown in ((InputLimits(max_side_px=20), 1), (InputLimits(), 2)):
        write_html_report(path, _of_photo(models, good), title="t", limits=limits)
        assert len(Page(path.read_text(encoding="utf-8")).links) == shown


def test_a_heic_is_shown(models: list[ModelScores], tmp_path: Path) -> None:
    """The page shows what the network has seen, whichever format it came in."""
    heif = pytest.importorskip("pillow_heif")
    try:
        heif.from_pillow(Image.open(models[0].cases[1].sample.image)).save(tmp_path / "s1.heic", quality=95)
    except (RuntimeError, ValueError, OSError):
        pytest.skip("this build of pillow_heif cannot write")
    write_html_report(tmp_path / "report.html", _of_photo(models, tmp_path / "s1.heic"), title="t")
    assert len(Page((tmp_path / "report.html").read_text(encoding="utf-8")).links) == 2


def test_models_with_different_pictures_are_refused(models: list[ModelScores]) -> None:
    """A comparison over different pictures raises and names them."""
    with pytest.raises(InputError, match="s5"):
        markdown_table([models[0], ModelScores("short", models[1].cases[:5])])
    with pytest.raises(InputError):
        markdown_table([])
    with pytest.raises(InputError, match="nonsense"):
        markdown_table(models, metrics=["nonsense"])


def test_a_page_that_cannot_be_written_raises(models: list[ModelScores], tmp_path: Path) -> None:
    """A folder in place of the file is an output error."""
    with pytest.raises(OutputError):
        write_html_report(tmp_path, models, title="t", worst=0)


def test_difference_is_white_red_and_blue() -> None:
    """Right is white, too much red, missing blue."""
    alpha, truth = np.zeros((2, 48, 48), np.float32)
    alpha[:, 16:32] = 1
    truth[:, 32:] = 1

    data = base64.b64decode(difference_uri(alpha, truth).split(",")[1])
    colours = np.asarray(Image.open(io.BytesIO(data)), np.int16)[24, [7, 24, 40]]

    assert np.abs(colours - [[255, 255, 255], [255, 0, 0], [0, 0, 255]]).max() < 12
