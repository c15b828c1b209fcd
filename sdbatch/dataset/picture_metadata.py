"""What a picture says of itself: A1111's infotext, and the mark that a model drew it.

The texts depend on the request and the model alone, never on clock, host or attempt, so the
same row gives the same bytes. Importing them (`sdbatch manifest import`) gives back the
request to the last character.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from sdbatch.manifest import infotext
from sdbatch.manifest.prompt_syntax import A1111
from sdbatch.manifest.scheduler_names import a1111_name, choose_scheduler
from sdbatch.records import RenderRow

INFOTEXT, MINIMAL, NONE = "infotext", "minimal", "none"
LEVELS = (INFOTEXT, MINIMAL, NONE)
PNG_INFOTEXT = "parameters"
PNG_XMP = "XML:com.adobe.xmp"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType='
    '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    "</rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)  # fmt: skip
"""IPTC's mark for pictures made by a trained model."""


@dataclass(frozen=True, slots=True)
class PictureMetadata:
    """Texts that a picture carries; empty ones are left out.

    Attributes:
        infotext: A1111's text of the request.
        xmp: An XMP packet.
    """

    infotext: str = ""
    xmp: str = ""


def picture_metadata(
    row: RenderRow, level: str, model: str = "", revision: str = ""
) -> PictureMetadata:
    """The texts of one picture.

    Args:
        row: Its request.
        level: One of `LEVELS`: request and mark, the mark alone, or neither.
        model: The model's name; of a path only the last part is written.
        revision: The model's revision.
    """
    if level == NONE:
        return PictureMetadata()
    return PictureMetadata(_infotext(row, model, revision) if level == INFOTEXT else "", XMP)


def exif_bytes(metadata: PictureMetadata) -> bytes:
    """The infotext as EXIF block of other formats, where A1111 keeps it too; may be empty.

    Source: CIPA DC-008, Exif 2.32, 4.6.5 tag UserComment: eight bytes name the code, then the
    text. Its `UNICODE` is UTF-16; readers of infotexts expect the high byte first.
    """
    if not metadata.infotext:
        return b""
    exif = Image.Exif()
    text = metadata.infotext.encode("utf-16-be", "surrogatepass")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + text
    return exif.tobytes()


def png_info(metadata: PictureMetadata) -> PngInfo | None:
    """The texts as chunks of a PNG file; None when there are none."""
    if not metadata.infotext and not metadata.xmp:
        return None
    info = PngInfo()
    if metadata.infotext.isascii() and metadata.infotext:
        info.add_text(PNG_INFOTEXT, metadata.infotext)
    elif metadata.infotext:
        info.add_itxt(PNG_INFOTEXT, metadata.infotext)
    if metadata.xmp:
        info.add_itxt(PNG_XMP, metadata.xmp)
    return info


def _infotext(row: RenderRow, model: str, revision: str) -> str:
    params = {"Steps": str(row.num_inference_steps), **_scheduler(row)}
    params |= {
        **_guidance(row),
        "Seed": str(row.seed),
        "Size": f"{row.width_px}x{row.height_px}",
    }
    if row.micro_conditioning:
        params[infotext.MICRO] = row.micro_conditioning
    if revision:
        params["Model hash"] = revision[:10]
    if model:
        params["Model"] = model.rstrip("/").rpartition("/")[2]
    if row.prompt_syntax != A1111:
        params["Prompt syntax"] = row.prompt_syntax
    params["Version"] = "sdbatch"
    return infotext.format(infotext.Infotext(row.prompt, row.negative_prompt, params))


def _guidance(row: RenderRow) -> dict[str, str]:
    """As A1111 writes it; of a model that is told its guidance, as Forge does."""
    said = {"CFG scale": _shortest(row.cfg_scale)}
    if row.true_cfg_scale is not None:
        said[infotext.DISTILLED] = _shortest(row.guidance_scale)
    return said


def _shortest(number: float) -> str:
    """The shortest decimal that is the same 32-bit number: 7.1, not 7.099999904632568."""
    return str(np.float32(number)).removesuffix(".0")  # a format would give the 64-bit number


def _scheduler(row: RenderRow) -> dict[str, str]:
    """A1111's words for the scheduler; diffusers' own beside them where those say another."""
    named = a1111_name(row.scheduler, row.scheduler_config)
    said = {"Sampler": named.sampler}
    if named.schedule_type:
        said["Schedule type"] = named.schedule_type
    if named.config:
        said["Scheduler config"] = named.config
    read = choose_scheduler(named.sampler, named.schedule_type, named.config)
    if (read.scheduler, read.config) == (row.scheduler, row.scheduler_config):
        return said
    exact = {"Sampler": named.sampler, "Scheduler": row.scheduler}
    return {**exact, "Scheduler config": row.scheduler_config} if row.scheduler_config else exact
