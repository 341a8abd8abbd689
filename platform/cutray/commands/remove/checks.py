"""What is checked before a model is loaded: the combination of options, and the files that are to be written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cutray.commands.remove import summary
from cutray.commands.remove.pipe import STDIN, STDOUT
from cutray.config import RemoverSettings
from cutray.errors import OptionError


@dataclass(frozen=True, slots=True)
class RemoveOptions:
    """What the command line says beside the settings; its options explain each."""

    output: str | None
    overwrite: bool
    skip_existing: bool
    include_results: bool
    allow_empty: bool
    explain: Path | None
    report: Path | None
    watch: bool
    as_json: bool


def check_options(sources: tuple[str, ...], chosen: RemoveOptions) -> None:
    """Refuse combinations that cannot be, and files of reports that exist or have the wrong ending."""
    from cutray.imaging.encode import parse_format
    from cutray.preflight import check_new_file

    if "" in sources:
        raise OptionError(got="an empty name among the photos", allowed="photos and folders", fix="check the variable")
    piped = any(source in STDIN for source in sources)
    single_folder = len(sources) == 1 and not piped and os.path.isdir(sources[0])
    if piped and len(sources) > 1:
        raise OptionError(
            got="- together with other photos", allowed="standard input alone", fix="give the photos on their own"
        )
    if chosen.output in STDOUT and (len(sources) != 1 or single_folder):
        raise OptionError(got="several photos for standard output", allowed="one photo", fix="name a folder after -o")
    if chosen.as_json and (chosen.output in STDOUT or (piped and chosen.output is None)):
        raise OptionError(got="--json and a picture, both for standard output", allowed="one", fix="add -o FILE")
    if chosen.explain is not None and (piped or chosen.output in STDOUT or len(sources) != 1 or single_folder):
        raise OptionError(got="--explain for a pipe or several photos", allowed="one photo that is a file")
    if chosen.explain is not None and chosen.skip_existing:
        raise OptionError(
            got="--explain together with --skip-existing", allowed="one of the two", fix="leave out --skip-existing"
        )
    if chosen.watch and not single_folder:
        raise OptionError(got="--watch for something else than a folder", allowed="one folder", fix="name one folder")
    if chosen.explain is not None:
        parse_format(chosen.explain)
    if chosen.report is not None:
        summary.check_report_name(chosen.report)
    for path in (chosen.explain, chosen.report):
        if path is not None:
            check_new_file(path, overwrite=chosen.overwrite)


def check_settings(settings: RemoverSettings, destinations: list[Path]) -> None:
    """Find what is wrong for all photos before the model is loaded."""
    from cutray.imaging.files import check_output, is_stream
    from cutray.preflight import check_output_settings, check_writable

    check_output_settings(settings, destinations)
    for stream in filter(is_stream, destinations):
        check_output(stream)
    for folder in {path.parent for path in destinations if not is_stream(path)}:
        check_writable(folder / "x")
