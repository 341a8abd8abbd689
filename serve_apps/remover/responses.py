"""Turns results into HTTP answers: headers for one, a zip or multipart body for many."""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from starlette.responses import Response

from serve_apps.remover.errors import ApiError, error_body
from serve_apps.remover.result_names import name_results
from serve_apps.remover.schemas import CutReply

MEDIA = {
    "PNG": "image/png",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "JPEG": "image/jpeg",
    "TIFF": "image/tiff",
}
_ZIP_MEDIA = "application/zip"
ENDINGS = {"PNG": "png", "WEBP": "webp", "AVIF": "avif", "JPEG": "jpg", "TIFF": "tif"}
# All headers of answers that a page of another origin may read, if its origin may call at all.
EXPOSED_HEADERS = (
    "X-Subject-Found",
    "X-Confidence",
    "X-Area-Fraction",
    "X-Width",
    "X-Height",
    "X-Box",
    "X-Revision",
    "X-Report",
    "X-Model",
    "X-Model-Role",
    "X-Engine",
    "X-Looks",
    "X-Notes",
    "X-Edge-Cases",
    "X-Images",
    "X-Failed",
    "X-Request-Id",
    "X-Error-Code",
    "X-Type",
    "X-Credits-Charged",
    "X-Foreground-Left",
    "X-Foreground-Top",
    "X-Foreground-Width",
    "X-Foreground-Height",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Content-Disposition",
    "Idempotent-Replayed",
    "Location",
    "Retry-After",
    "Server-Timing",
)


def result_headers(reply: CutReply, notes: Sequence[str] = ()) -> dict[str, str]:
    """Return what is known about a result, as headers.

    Args:
        reply: The result.
        notes: What is to be said about the request beside the notes of the result.
    """
    report = reply.report
    timing = ", ".join(f"{stage};dur={spent:g}" for stage, spent in report.timings_ms.items())
    told = _header_text("; ".join([*report.notes, *notes]))
    return {
        "X-Subject-Found": str(report.subject_found).lower(),
        "X-Confidence": f"{report.confidence:.4f}",
        "X-Area-Fraction": f"{report.area_fraction:.4f}",
        "X-Width": str(report.width_px),
        "X-Height": str(report.height_px),
        "X-Box": ",".join(map(str, report.box)),
        "X-Model": _header_text(report.model),
        **({"X-Model-Role": "challenger"} if reply.by_challenger else {}),
        "X-Engine": _header_text(report.engine),
        "X-Looks": str(report.looks),
        **({"X-Notes": told} if told else {}),
        **({"X-Edge-Cases": ",".join(report.edge_cases)} if report.edge_cases else {}),
        "Server-Timing": timing,
        "Cache-Control": "no-store",
    }


def _header_text(text: str) -> str:
    """Return a text as a header may hold it: printable ASCII alone."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def image_response(reply: CutReply, more: Mapping[str, str] | None = None, notes: Sequence[str] = ()) -> Response:
    """Return one result as a picture.

    Args:
        reply: The result.
        more: Further headers.
        notes: What is to be said about the request, for ``X-Notes``.
    """
    headers = {**result_headers(reply, notes), **(more or {})}
    return Response(reply.data, media_type=MEDIA.get(reply.format, _ZIP_MEDIA), headers=headers)


def _result_rows(
    results: Sequence[CutReply | ApiError], names: Sequence[str], request_id: str
) -> list[dict[str, object]]:
    """Describe each result or error, in order."""
    endings = [None if isinstance(result, ApiError) else ENDINGS[result.format] for result in results]
    rows: list[dict[str, object]] = []
    for index, (result, name, file) in enumerate(zip(results, names, name_results(names, endings), strict=True)):
        shared: dict[str, object] = {"index": index, "name": name}
        if isinstance(result, ApiError):
            rows.append({**shared, "status": result.status, **error_body(result.code, result.message, request_id)})
            continue
        report = result.report
        rows.append(
            {
                **shared,
                "status": 200,
                "file": file,
                "subject_found": report.subject_found,
                "confidence": report.confidence,
                "area_fraction": report.area_fraction,
                "width_px": report.width_px,
                "height_px": report.height_px,
                "box": report.box,
                "looks": report.looks,
                "notes": report.notes,
                "edge_cases": report.edge_cases,
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
            head["Content-Disposition"] = disposition(str(row["file"]))
            body = result.data
        else:
            head, body = {"Content-Type": "application/json", "X-Status": str(result.status)}, json.dumps(row).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        parts.append(f"--{boundary}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def disposition(name: str) -> str:
    """Name a part's file, in ASCII and in full. Source: RFC 6266, section 4.1."""
    plain = _header_text(name).replace('"', "_").replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def batch_response(
    results: Sequence[CutReply | ApiError], names: Sequence[str], request_id: str, *, multipart: bool
) -> Response:
    """Return many results in one answer.

    Args:
        results: One result or error per photo, in the order in which they came.
        names: Name of each photo, from ``clean_name``.
        request_id: For the errors.
        multipart: As multipart/mixed instead of a zip.

    Returns:
        The answer; its status is 200 even when photos failed, because each has its own.
    """
    rows = _result_rows(results, names, request_id)
    failed = sum(isinstance(result, ApiError) for result in results)
    headers = {"X-Images": str(len(results)), "X-Failed": str(failed), "Cache-Control": "no-store"}
    if multipart:
        boundary = secrets.token_hex(16)
        body = _multipart(results, rows, boundary)
        return Response(body, media_type=f"multipart/mixed; boundary={boundary}", headers=headers)
    headers["Content-Disposition"] = 'attachment; filename="cutouts.zip"'
    return Response(_zip(results, rows), media_type="application/zip", headers=headers)
