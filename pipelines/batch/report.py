"""The page of a batch: what happened, and samples, failures and doubtful results to look through, in one file."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from cutray.config import RemoverSettings
from cutray.errors import CutrayError
from cutray.evaluation.figures import histogram_svg
from cutray.evaluation.html_page import html_page, html_table
from cutray.imaging.decode import decode_image
from pipelines.batch.manifest import PhotoStatus
from pipelines.batch.names import printable
from pipelines.batch.shards import sample_name
from pipelines.batch.sources import Listing, open_shard, read_photo
from pipelines.batch.storage_base import Reader, Storage
from pipelines.scoring import spread

_SIDE_PX = 200
_SAMPLES, _DOUBTFUL, _FAILURES = 24, 24, 200
_STYLE = """
figure{margin:.5rem;max-width:26rem}
figure img{max-height:200px;max-width:200px;vertical-align:top;
background:repeating-conic-gradient(#bbb 0 25%,#eee 0 50%) 0 0/16px 16px}
"""


class Pictures:
    """Reads the photos and the results that the page shows."""

    def __init__(self, listing: Listing, target: Storage, settings: RemoverSettings) -> None:
        """Remember where they are.

        Args:
            listing: The source.
            target: Where the results are.
            settings: Limits for reading pictures.
        """
        self._reader = listing.reader
        self._photos = {photo.key: photo for photo in listing.photos}
        self._target = target
        self._settings = settings
        self._shards: dict[str, tuple[Reader, dict[str, str]]] = {}

    def thumbnails(self, row: Mapping[str, Any]) -> str:
        """Show a photo beside its result; what has gone is left out."""
        photo = self._photos[row["source"]]
        pictures = self._thumbnail(self._reader, photo.location)
        if row["output_sha256"] is None:
            return pictures
        if row["shard_bytes"] is None:
            return pictures + self._thumbnail(self._target, row["output"])
        reader, found = self._shards.get(row["output"]) or open_shard(self._target, row["output"])
        self._shards[row["output"]] = reader, found
        return pictures + self._thumbnail(reader, found.get(photo.name) or found.get(sample_name(photo.name), ""))

    def _thumbnail(self, reader: Reader, location: str) -> str:
        """Read a picture and shrink it."""
        if not location:
            return ""
        try:
            picture = decode_image(read_photo(reader, location, self._settings), self._settings)
        except CutrayError:
            return ""
        image = Image.fromarray(picture.pixels)
        if picture.alpha is not None:
            image.putalpha(Image.fromarray(picture.alpha))
        image.thumbnail((_SIDE_PX, _SIDE_PX))
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=75)
        text = base64.b64encode(buffer.getvalue()).decode("ascii")
        return f'<img src="data:image/webp;base64,{text}" alt="">'


def report_page(rows: pa.Table, facts: dict[str, Any], settings: dict[str, Any], pictures: Pictures) -> str:
    """Write the page.

    Args:
        rows: Rows of the manifest that belong to this source.
        facts: Name and value of what the summary shows.
        settings: Name and value of the settings that differ from their defaults, the model among them.
        pictures: Reads photos and results.

    Returns:
        HTML that needs no other file.
    """
    done = rows.filter(pc.equal(rows.column("status"), PhotoStatus.OK))
    failed = rows.filter(pc.equal(rows.column("status"), PhotoStatus.FAILED))
    empty = rows.filter(pc.equal(rows.column("status"), PhotoStatus.NO_SUBJECT))
    doubtful = pa.concat_tables([empty, done]).sort_by("confidence")[:_DOUBTFUL]
    confidence = {"photos": done.column("confidence").to_numpy().astype(np.float64)}

    def figures(table: pa.Table) -> str:
        return "".join(_figure(row, pictures) for row in table.to_pylist())

    parts = [
        html_table([["", ""], *([name, str(value)] for name, value in facts.items())]),
        "<h2>Model and settings</h2>",
        html_table([["setting", "value"], *([name, str(value)] for name, value in settings.items())]),
        f"<h2>Confidence</h2>{histogram_svg(confidence, 'confidence')}",
        f"<h2>Failures ({failed.num_rows})</h2>{_failures(failed)}",
        f"<h2>Lowest confidence</h2>{figures(doubtful)}" if doubtful.num_rows else "",
        f"<h2>Samples</h2>{figures(done.take(spread(list(range(done.num_rows)), _SAMPLES)))}" if done.num_rows else "",
    ]
    return html_page("Batch", parts, _STYLE)


def _failures(failed: pa.Table) -> str:
    """Count the reasons and list the first failures."""
    if not failed.num_rows:
        return "<p>None.</p>"
    counts = Counter(failed.column("code").to_pylist()).most_common()
    first = [
        [printable(row["source"]), str(row["code"]), str(row["reason"])]
        for row in failed.slice(0, _FAILURES).to_pylist()
    ]
    more = failed.num_rows - len(first)
    return (
        html_table([["reason", "photos"], *([str(code), str(number)] for code, number in counts)])
        + html_table([["photo", "code", "reason"], *first])
        + (f"<p>{more} more are in the manifest.</p>" if more > 0 else "")
    )


def _figure(row: dict[str, Any], pictures: Pictures) -> str:
    """Show a photo beside its result, with what is known of it."""
    caption = f"{printable(row['source'])}: {row['status']}, confidence {row['confidence'] or 0:.2f}"
    return f"<figure>{pictures.thumbnails(row)}<figcaption>{html.escape(caption)}</figcaption></figure>"
