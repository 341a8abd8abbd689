"""The result of one removal: the pictures, the encoded file, and the report."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Unpack

import cv2
import numpy as np
from PIL import AvifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from cutray.config import HintSettings, RemoverSettings, parse_settings
from cutray.errors import OptionError
from cutray.hints import Points, format_points
from cutray.imaging.checkerboard import lay_on_checkerboard
from cutray.imaging.decode import DecodedImage, from_array, from_pil
from cutray.imaging.detect_format import detect_format
from cutray.imaging.encode import encode_image, format_of_output, parse_format
from cutray.imaging.files import write_atomically
from cutray.imaging.metadata import Metadata
from cutray.imaging.resize import resize_within
from cutray.matting.objects import FoundObject
from cutray.options import PictureOptions
from cutray.render import encode, render, shape_alpha

# A notebook shows a preview of this longer side, on a checkerboard of squares of this size.
_PREVIEW_SIDE_PX, _SQUARE_PX = 480, 8
_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}


@dataclass(slots=True)
class RemovalReport:
    """What is known about one removal.

    Attributes:
        subject_found: False when the scene is empty; the cutout is then fully transparent.
        confidence: Overlap (IoU) of the mask with the right one that is to be expected, in [0, 1]. Without a subject
            it is the network's mean probability, which `min_confidence` is compared with.
        area_fraction: Share of the photo that the subject covers, in [0, 1].
        width_px: Width of the photo.
        height_px: Height of the photo.
        box: Left, top, right, bottom of the result within the photo, in pixels.
        model: Name of the model.
        engine: Engine, device and precision.
        looks: How many views of the photo the network ran on.
        notes: What was left out or changed on the way in.
        edge_cases: What makes the edges hard, if it was asked for: fine_detail, transparency, reflectivity, texture.
        objects: Box and area of each separate subject, the largest first.
        timings_ms: Milliseconds of each stage.
    """

    subject_found: bool
    confidence: float
    area_fraction: float
    width_px: int
    height_px: int
    box: tuple[int, int, int, int]
    model: str
    engine: str
    looks: int = 1
    notes: tuple[str, ...] = ()
    edge_cases: tuple[str, ...] = ()
    objects: tuple[FoundObject, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)


class Removal(tuple[Any, Any]):
    """The pair ``(cutout, mask)``, with more about it in attributes.

    Attributes:
        cutout: (h, w, 4) uint8 straight RGBA, or what the options asked for instead; a Pillow image if a Pillow
            image was given, else an array.
        mask: (h, w) uint8, the alpha channel as a grey picture; a Pillow image or an array likewise.
        report: Confidence, sizes, notes and timings.
        data: The encoded file.
    """

    report: RemovalReport
    data: bytes
    _metadata: Metadata | None
    _correct: Callable[[HintSettings], Removal] | None

    def __new__(
        cls,
        cutout: Any,
        mask: Any,
        report: RemovalReport,
        data: bytes,
        correct: Callable[[HintSettings], Removal] | None = None,
        metadata: Metadata | None = None,
    ) -> Removal:
        """Build the pair; ``correct`` makes it anew with further hints, ``metadata`` is what was kept."""
        pair = super().__new__(cls, (cutout, mask))
        pair.report, pair.data, pair._correct, pair._metadata = report, data, correct, metadata
        return pair

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling with all attributes but what is kept for ``refine``."""
        return type(self), (self[0], self[1], self.report, self.data, None, self._metadata)

    @property
    def cutout(self) -> Any:
        """The first of the pair."""
        return self[0]

    @property
    def mask(self) -> Any:
        """The second of the pair."""
        return self[1]

    def save(self, path: str | PathLike[str], *, overwrite: bool = True) -> None:
        """Write the cutout to a file, atomically, in the format of its ending.

        The encoded file is written as it is if it has that format. Else the cutout is encoded anew, with the colour
        profile, the resolution and the metadata of the encoded file.

        Args:
            path: File to write; missing folders are made.
            overwrite: Whether an existing file may be replaced.

        Raises:
            OptionError: The ending names no format, or the format cannot hold the cutout.
            OutputExistsError: The file exists and ``overwrite`` is off.
            OutputError: It cannot be written.
        """
        name = format_of_output(path)
        data = self.data
        if detect_format(data) != name:
            info = _read_info(data)
            picture = np.asarray(self.cutout)
            profile, dpi = info.get("icc_profile"), info.get("dpi")
            data = encode_image(picture, name, icc_profile=profile, dpi=dpi, metadata=self._metadata)
        write_atomically(path, data, overwrite=overwrite)

    def refine(self, *, keep: Points = None, drop: Points = None, strokes: str | None = None) -> Removal:
        """Correct the mask by marks, beside all hints before; the network is not asked again.

        Args:
            keep: (x, y) of points of the subject, in pixels of the upright photo, or a text as for the option `keep`.
            drop: Points of the background, likewise.
            strokes: Path of a picture with green strokes on the subject and red ones on the background.

        Returns:
            The corrected result, with the same options. It can be corrected further.

        Raises:
            ConfigError: A text is no list of points.
            OptionError: A mark lies outside the photo, one pixel is marked as both, or nothing is kept for the result,
                because it comes from ``remove_many`` or another process.
            InputError: The strokes cannot be read.
        """
        if self._correct is None:
            raise OptionError(
                got="a result for which nothing is kept",
                allowed="results of remove_background and of remove, in the process that made them",
                fix="remove the background again, with the options keep and drop",
            )
        marks = {"keep": format_points(keep), "drop": format_points(drop), "strokes": strokes}
        result = self._correct(parse_settings(HintSettings, marks))
        return result.as_pillow() if isinstance(self.cutout, Image.Image) else result

    def composite(
        self,
        background: str | PathLike[str] | Image.Image | np.ndarray | None = None,
        **options: Unpack[PictureOptions],
    ) -> Removal:
        """Lay the cutout out anew: on a background, on a canvas, with a shadow; the network is not asked again.

        Args:
            background: A colour, a gradient or pattern, or the path of a picture, as for the option `background`; or a
                picture. None leaves it transparent.
            options: Options of output and canvas, such as ``size``, ``margin``, ``shadow`` or ``template``.

        Returns:
            The new result; this one stays as it is.

        Raises:
            ConfigError: An option is unknown or has a value that is not allowed.
            OptionError: This result is not a transparent cutout, or the background is neither a colour nor a picture.
            InputError: The background picture cannot be read.
        """
        cutout = np.asarray(self.cutout)
        if cutout.ndim != 3 or cutout.shape[2] != 4:
            raise OptionError(
                got="a result that is a mask, or on a background already",
                allowed="transparent cutouts",
                fix="remove the background again, without only_mask and background",
            )
        if options.get("inverse") or (isinstance(background, str) and background == "blur"):
            raise OptionError(
                got="inverse or the background blur for a cutout, which has nothing of its photo's background left",
                allowed="other options of output and canvas",
                fix="remove the background again with this option",
            )
        backdrop = _as_picture(background)
        named = os.fspath(background) if isinstance(background, str | PathLike) else None
        if backdrop is not None:
            named = "white"  # never seen: the picture takes its place
        settings = parse_settings(RemoverSettings, {**options, **({} if named is None else {"background": named})})
        info = _read_info(self.data)
        picture = from_array(cutout, keep_uint16=True)
        profile, dpi = info.get("icc_profile"), info.get("dpi")
        image = replace(picture, alpha=None, icc_profile=profile, dpi=dpi, metadata=self._metadata)
        alpha = shape_alpha(cutout[..., 3].astype(np.float32) / np.iinfo(cutout.dtype).max, image, settings)
        rendered = render(image, alpha, settings, clean_edges=False, limits=settings, backdrop=backdrop)
        data = encode(rendered, image, settings, parse_format("png" if settings.format == "auto" else settings.format))
        report = replace(self.report, notes=self.report.notes + rendered.notes, box=self._box_in_photo(rendered.box))
        result = Removal(rendered.picture, rendered.mask, report, data, metadata=self._metadata)
        return result.as_pillow() if isinstance(self.cutout, Image.Image) else result

    def _box_in_photo(self, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return where a box of this result is in the photo; of one on a canvas the box that is known."""
        left, top, right, bottom = self.report.box
        if np.shape(self.cutout)[:2] != (bottom - top, right - left):
            return self.report.box
        return box[0] + left, box[1] + top, box[2] + left, box[3] + top

    def __repr__(self) -> str:
        """Say in one line what it is, whatever the size of its pictures."""
        height, width = np.shape(self.cutout)[:2]
        found = f"subject with confidence {self.report.confidence:.2f}" if self.report.subject_found else "no subject"
        return f"<Removal {width}×{height} px: {found}, {self.report.model} on {self.report.engine}>"

    def _repr_png_(self) -> bytes:
        """Show a small preview in notebooks, on a checkerboard where it is transparent."""
        picture = np.asarray(self.cutout)
        if picture.dtype == np.uint16:
            picture = cv2.convertScaleAbs(picture, alpha=255 / 65535)
        picture = resize_within(picture, _PREVIEW_SIDE_PX)
        if picture.ndim == 3 and picture.shape[2] == 4:
            picture = lay_on_checkerboard(picture, _SQUARE_PX)
        return encode_image(picture, "PNG")

    def as_pillow(self) -> Removal:
        """Return the same with Pillow images in place of arrays; 16-bit ones stay, Pillow has no such RGB."""
        if self.cutout.dtype != np.uint8:
            return self
        cutout = Image.fromarray(self.cutout)
        profile = _read_info(self.data).get("icc_profile")
        if profile:
            cutout.info["icc_profile"] = profile
        return Removal(cutout, Image.fromarray(self.mask), self.report, self.data, self._correct, self._metadata)


def _as_picture(background: str | PathLike[str] | Image.Image | np.ndarray | None) -> DecodedImage | None:
    """Bring a background that is a picture already to pixels; None for all others."""
    if isinstance(background, Image.Image):
        return from_pil(background, keep_profile=True)
    return from_array(background) if isinstance(background, np.ndarray) else None


def _read_info(data: bytes) -> dict[Any, Any]:
    """Read what an encoded file says beside its pixels, from its header alone.

    Image.open refuses large pictures by a limit of the whole process, which is not ours to change.
    """
    with _PLUGINS[detect_format(data)](io.BytesIO(data)) as encoded:
        return encoded.info
