"""Turns results into HTTP answers: headers for one, a zip or multipart body for many."""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from collections.abc import Sequence

from starlette.responses import Response

from serve_apps.remover.errors import ApiError, error_body
from serve_apps.remover.schemas import CutReply

MEDIA = {
    "PNG": "image/png",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "JPEG": "image/jpeg",
    "TIFF": "image/tiff",
}
_ENDINGS = {"PNG": "png", "WEBP": "webp", "AVIF": "avif", "JPEG": "jpg", "TIFF": "tif"}


def result_headers(reply: CutReply) -> dict[str, str]:
    """Return what is known about a result, as headers."""
    report = reply.report
    timing = ", ".join(f"{stage};dur={spent:g}" for stage, spent in report.timings_ms.items())
    notes = "; ".join(report.notes).encode("ascii", "replace").decode()
    return {
        "X-Subject-Found": str(report.subject_found).lower(),
        "X-Confidence": f"{report.confidence:.4f}",
        "X-Area-Fraction": f"{report.area_fraction:.4f}",
        "X-Width": str(report.width_px),
        "X-Height": str(report.height_px),
        "X-Box": ",".join(map(str, report.box)),
        "X-Model": report.model,
        "X-Engine": report.engine,
        **({"X-Notes": notes} if notes else {}),
        "Server-Timing": timing,
        "Cache-Control": "no-store",
    }


def image_response(reply: CutReply, more: dict[str, str] | None = None) -> Response:
    """Return one result as a picture."""
    return Response(reply.data, media_type=MEDIA[reply.format], headers={**result_headers(reply), **(more or {})})


def _result_rows(results: Sequence[CutReply | ApiError], request_id: str) -> list[dict[str, object]]:
    """Describe each result or error, in order."""
    rows: list[dict[str, object]] = []
    for index, result in enumerate(results):
        if isinstance(result, ApiError):
            rows.append(
                {"index": index, "status": result.status, **error_body(result.code, result.message, request_id)}
            )
            continue
        rows.append(
            {
                "index": index,
                "status": 200,
                "file": f"{index + 1:02d}.{_ENDINGS[result.format]}",
                "subject_found": result.report.subject_found,
                "confidence": result.report.confidence,
                "area_fraction": result.report.area_fraction,
                "width_px": result.report.width_px,
                "height_px": result.report.height_px,
                "box": result.report.box,
            }
        )
    return rows


def _zip(results: Sequence[CutReply | ApiError], rows: list[dict[str, object]]) -> bytes:
    """Pack the results, which are compressed already, with a list of what became of each photo."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for result, row in zip(results, rows, strict=True):
            if isinstance(result, CutReply):
                archive.writestr(str(row["file"]), result.data)
        archive.writestr("results.json", json.dumps(rows, indent=2))
    return sink.getvalue()


def _multipart(results: Sequence[CutReply | ApiError], rows: list[dict[str, object]], boundary: str) -> bytes:
    """Write one part per photo: its result, or its error as JSON."""
    parts = []
    for result, row in zip(results, rows, strict=True):
        if isinstance(result, CutReply):
            head = {"Content-Type": MEDIA[result.format], **result_headers(result), "X-Status": "200"}
            head["Content-Disposition"] = f'attachment; filename="{row["file"]}"'
            body = result.data
        else:
            head, body = {"Content-Type": "application/json", "X-Status": str(result.status)}, json.dumps(row).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        parts.append(f"--{boundary}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def batch_response(results: Sequence[CutReply | ApiError], request_id: str, *, multipart: bool) -> Response:
    """Return many results in one answer.

    Args:
        results: One result or error per photo, in the order in which they came.
        request_id: For the errors.
        multipart: As multipart/mixed instead of a zip.

    Returns:
        The answer; its status is 200 even when photos failed, because each has its own.
    """
    rows = _result_rows(results, request_id)
    failed = sum(isinstance(result, ApiError) for result in results)
    headers = {"X-Images": str(len(results)), "X-Failed": str(failed), "Cache-Control": "no-store"}
    if multipart:
        boundary = secrets.token_hex(16)
        body = _multipart(results, rows, boundary)
        return Response(body, media_type=f"multipart/mixed; boundary={boundary}", headers=headers)
    headers["Content-Disposition"] = 'attachment; filename="cutouts.zip"'
    return Response(_zip(results, rows), media_type="application/zip", headers=headers)
