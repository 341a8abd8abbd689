"""What can be found wrong before a model is loaded and a photo is decoded, because it is the same for all photos."""

from __future__ import annotations

import os
from collections.abc import Iterable
from os import PathLike

from cutray.config import RemoverSettings
from cutray.errors import InputError, OptionError, OutputError, OutputExistsError
from cutray.imaging.color_names import parse_color
from cutray.imaging.decode import decode_image
from cutray.imaging.files import read_bytes
from cutray.imaging.fills import is_fill, parse_fill
from cutray.sources import output_format

_DEEP_FORMATS = ("PNG", "TIFF")


def check_output_settings(
    settings: RemoverSettings, destinations: Iterable[str | PathLike[str] | None] = (None,)
) -> None:
    """Check the settings of the output: background, and the format of every file to be written.

    Args:
        settings: All settings.
        destinations: Files to be written; None stands for a result that gets no file name.

    Raises:
        OptionError: The background is neither a color nor a usable picture, the outline is no color, a file's ending
            names no format, or its format cannot hold the result.
    """
    check_background(settings)
    if settings.outline is not None:
        parse_color(settings.outline)
    names = [None if path is None else os.fspath(path) for path in destinations]
    firsts = {None if name is None else os.path.splitext(name)[1] or name: name for name in reversed(names)}
    for destination in firsts.values():  # one for each ending
        name = output_format(settings, destination)
        if settings.bit_depth == 16 and name not in _DEEP_FORMATS:
            raise OptionError(
                got=f"16 bits per channel for {name}",
                allowed="PNG or TIFF for 16 bits",
                fix="choose one of these formats, or 8 bits",
            )


def check_background(settings: RemoverSettings) -> None:
    """Check that a background is a color or a picture that can be read.

    Raises:
        OptionError: It is neither.
    """
    wanted = settings.background
    if wanted is None or wanted == "blur":
        return
    if is_fill(wanted) or not os.path.isfile(wanted):  # unlike pathlib, it takes a text of any length
        parse_fill(wanted)
        return
    try:
        decode_image(read_bytes(wanted, settings), settings)
    except InputError as error:
        raise OptionError(
            got=f"the background picture {wanted!r} cannot be used: {error.got}",
            allowed=error.allowed,
            fix="choose another picture, or a color",
        ) from error


def check_new_file(path: str | PathLike[str], *, overwrite: bool) -> None:
    """Check, before the work for it, that a file can be written and replaces none.

    Args:
        path: The file.
        overwrite: Whether it may replace one.

    Raises:
        OutputExistsError: It exists.
        OutputError: Its folder cannot be written to.
    """
    check_writable(path)
    if os.path.isfile(path) and not overwrite:
        raise OutputExistsError(got=f"{os.fspath(path)!r} exists", fix="choose another name, or add --overwrite")


def check_writable(path: str | PathLike[str]) -> None:
    """Check that a file could be created at a path, whose folder need not exist yet.

    Raises:
        OutputError: A folder on the way is a file, may not be written to, or lies on a read-only file system; or the
            drive is not there.
    """
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(folder) and os.path.dirname(folder) != folder:  # a missing drive has no parent
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise OutputError(got=f"{folder!r} is not a folder", fix="choose another output")
    if os.name == "posix" and os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OutputError(got=f"{folder!r} lies on a read-only file system", fix="choose another output")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(got=f"no right to write into {folder!r}", fix="choose another output, or change its rights")
