"""What an image file tells of people besides its picture: where, whose, which patient.

It says what kind of thing stands where, never what stands there: no value leaves this file, so
none can reach a report. Licences are the exception, those that are public by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any, Literal, NamedTuple

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from miniclip.dicom import is_dicom
from miniclip.images import ImageSource, undecoded
from miniclip.quiet import quiet

Kind = Literal[
    "place", "owner", "person", "device", "patient", "text", "preview", "maker note", "burnt in"
]
KINDS: Mapping[Kind, str] = {
    "place": "where it was taken",
    "owner": "who took or owns it",
    "person": "who is shown, or who treated",
    "device": "the serial number of a camera or machine",
    "patient": "a patient: name, number, birthday and the like",
    "text": "free text that may name anybody",
    "preview": "a small copy of the picture, perhaps of what was cut off",
    "maker note": "a block that only the maker of the camera can read",
    "burnt in": "text within the pixels, by the word of the file",
}
_EXIF: Mapping[str, Kind] = {
    "Artist": "owner", "Copyright": "owner", "XPAuthor": "owner", "CameraOwnerName": "owner",
    "BodySerialNumber": "device", "LensSerialNumber": "device", "CameraSerialNumber": "device",
    "ImageUniqueID": "device", "HostComputer": "device", "MakerNote": "maker note",
    "UserComment": "text", "ImageDescription": "text", "DocumentName": "text", "XPTitle": "text",
    "XPComment": "text", "XPSubject": "text", "XPKeywords": "text",
}  # fmt: skip
_EXIF_3: Mapping[int, Kind] = {0xA436: "text", 0xA437: "owner", 0xA438: "owner"}  # title, ...
_IPTC: Mapping[int, Kind] = {  # data sets of record 2, IPTC-IIM 4.2
    **dict.fromkeys((80, 85, 110, 115, 116, 118, 122), "owner"),
    **dict.fromkeys((90, 92, 95, 100, 101), "place"),
    **dict.fromkeys((5, 25, 40, 105, 120), "text"),
}  # fmt: skip
_COPYRIGHT = (2, 116)
_XMP_KINDS: tuple[tuple[Kind, str], ...] = (
    ("place", r"exif:GPS|photoshop:(?:City|State|Country)|Iptc4xmp\w+:(?:Location|Sublocation)"),
    ("person", r"PersonInImage|mwg-rs:Name|MP:PersonDisplayName"),
    ("owner", r"dc:creator|dc:rights|xmpRights:Owner|photoshop:(?:Credit|AuthorsPosition)"
              r"|CreatorContactInfo|aux:OwnerName|CameraOwnerName"),
    ("device", r"(?:aux|exifEX):\w*SerialNumber"),
    ("text", r"dc:(?:title|description|subject)|photoshop:(?:Headline|Instructions)"),
    ("preview", r"xmp:Thumbnails|xmpGImg:image"),
)  # fmt: skip
# Of the patient or of those around, beside all names of persons (VR PN): from the Basic Profile of
# DICOM PS3.15, table E.1-1, where a value tells something.
_DICOM: Mapping[Kind, str] = {
    "patient": r"Patient(?!Identity|Position|Orientation)\w*|OtherPatient\w*|Issuer\w*|\w*BirthDate"
               r"|AdmissionID|AccessionNumber|MilitaryRank|EthnicGroup\w*|CountryOfResidence"
               r"|MedicalRecordLocator|Occupation|ServiceEpisodeID",
    "place": r"Institution\w*|\w*Address\w*|RegionOfResidence|CurrentPatientLocation|StationName",
    "device": r"\w*DeviceSerialNumber|DetectorID|GantryID|PlateID|CassetteID|DeviceUID",
    "text": r"\w*Comments|\w*Description(?!\w*Sequence)|AdditionalPatientHistory|TextValue"
            r"|TextString",
}  # fmt: skip
_LICENCE = re.compile(
    r"creativecommons\.org/(licenses/(?P<cc>[a-z-]+)/(?P<version>\d\.\d)|publicdomain/(?P<pd>zero|mark))"
    r"|(?P<name>CC[ -]BY(?:[ -](?:NC|ND|SA))*(?:[ -]\d\.\d)?|CC0)|(?P<domain>public domain)",
    re.IGNORECASE,
)  # fmt: skip


class Trace(NamedTuple):
    """Something of a person in a file: of which kind, and in which tag."""

    kind: Kind
    tag: str


class Told(NamedTuple):
    """What a file tells: traces, and the licence it names; "" none, "unnamed" only a notice."""

    traces: tuple[Trace, ...]
    licence: str


def traces_of(source: ImageSource) -> Told:
    """Read what an image file tells of people; ImageError when it cannot be read at all."""
    data = source.data if source.data is not None else _read(source)
    if is_dicom(data[:132], "." + source.name.rpartition(".")[2].lower()):
        return Told(tuple(dict.fromkeys(_dicom(data))), "")
    with undecoded(ImageSource(source.name, data=data)) as image:
        # Tags, however broken, are no error; what can be read of them is told.
        found = list(dict.fromkeys(_photo(image)))
        texts = _rights(image)
    return Told(tuple(found), _licence(texts))


def xmp_of(image: Image.Image) -> str:
    """Return the XMP of an image as text, "" without any."""
    for name in ("xmp", "XML:com.adobe.xmp", "xml"):
        value = image.info.get(name)
        if isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
        if isinstance(value, str):
            return value
    return ""


def _read(source: ImageSource) -> bytes:
    with undecoded(source):  # says why, when there is nothing to read
        pass
    if source.path is None:
        return b""
    with source.path.open("rb") as stream:
        stream.seek(source.offset)
        return stream.read(-1 if source.size is None else source.size)


def _photo(image: Image.Image) -> Iterator[Trace]:
    # Each may stumble over broken tags, and keeps what it has told by then.
    for part in (_all_exif, _iptc, _xmp, _texts):
        with suppress(Exception):
            yield from part(image)


def _all_exif(image: Image.Image) -> Iterator[Trace]:
    exif = image.getexif()
    yield from _exif(exif)
    yield from _exif(exif.get_ifd(ExifTags.IFD.Exif))
    for tag, value in exif.get_ifd(ExifTags.IFD.GPSInfo).items():
        if value not in (None, "", b"") and tag != ExifTags.GPS.GPSVersionID:
            yield Trace("place", f"EXIF {ExifTags.GPSTAGS.get(tag, tag)}")
    if exif.get_ifd(ExifTags.IFD.IFD1):
        yield Trace("preview", "EXIF thumbnail")


def _iptc(image: Image.Image) -> Iterator[Trace]:
    if isinstance(image, ImageFile.ImageFile):
        for record, number in IptcImagePlugin.getiptcinfo(image) or {}:
            if record == 2 and number in _IPTC:
                yield Trace(_IPTC[number], f"IPTC 2:{number:02}")


def _xmp(image: Image.Image) -> Iterator[Trace]:
    xmp = xmp_of(image)
    for kind, pattern in _XMP_KINDS:
        for match in re.findall(pattern, xmp):
            yield Trace(kind, f"XMP {match}")


def _texts(image: Image.Image) -> Iterator[Trace]:
    if image.info.get("comment"):
        yield Trace("text", "comment")
    if image.format == "MPO":
        yield Trace("preview", "further pictures (MPF)")
    for name in getattr(image, "text", {}):  # decodes a PNG, whose texts may stand at the end
        if name != "XML:com.adobe.xmp":
            owner = name in ("Author", "Copyright")
            yield Trace("owner" if owner else "text", f"PNG {_safe(name)}")


def _exif(tags: Image.Exif | Mapping[int, Any]) -> Iterator[Trace]:
    for tag, value in tags.items():
        name = ExifTags.TAGS.get(tag, "")
        kind = _EXIF.get(name) or _EXIF_3.get(tag)
        if kind and value not in (None, "", b""):
            yield Trace(kind, f"EXIF {name or hex(tag)}")


def _safe(name: str) -> str:
    """Return the keyword of a text chunk where it is one that programs write."""
    usual = ("Author", "Comment", "Copyright", "Creation Time", "Description", "Disclaimer",
             "Raw profile type exif", "Raw profile type iptc", "Software", "Source", "Title",
             "Warning")  # fmt: skip
    return name if name in usual else "text chunk"


def _dicom(data: bytes) -> Iterator[Trace]:
    import pydicom  # noqa: PLC0415 -- an optional extra

    with suppress(Exception), quiet():
        found = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, force=True)
        if str(found.get("BurnedInAnnotation", "")).upper() == "YES":
            yield Trace("burnt in", "DICOM BurnedInAnnotation")
        for element in found.iterall():
            if element.is_empty:
                continue
            if element.tag.is_private:
                yield Trace("text", "DICOM private tag")
                continue
            for kind, pattern in _DICOM.items():
                if re.fullmatch(pattern, element.keyword):
                    yield Trace(kind, f"DICOM {element.keyword}")
                    break
            else:
                if element.VR == "PN":
                    yield Trace("person", f"DICOM {element.keyword}")


def _rights(image: Image.Image) -> list[str]:
    """Return the texts in which a licence may stand."""
    texts = [xmp_of(image)]
    with suppress(Exception):
        exif = image.getexif()
        texts += [
            str(exif.get(ExifTags.Base.Copyright, "")),
            str(exif.get(ExifTags.Base.Artist, "")),
        ]
    with suppress(Exception):
        texts += [str(getattr(image, "text", {}).get("Copyright", ""))]
    with suppress(Exception):
        if isinstance(image, ImageFile.ImageFile):
            notice = (IptcImagePlugin.getiptcinfo(image) or {}).get(_COPYRIGHT, b"")
            texts += [notice.decode("utf-8", "replace") if isinstance(notice, bytes) else "noted"]
    return texts


def _licence(texts: list[str]) -> str:
    for text in texts:
        if found := _LICENCE.search(text):
            if found["cc"]:
                return f"CC {found['cc'].upper()} {found['version']}"
            if found["pd"]:
                return "CC0 1.0" if found["pd"].lower() == "zero" else "public domain"
            return found["name"].upper().replace("CC-", "CC ") if found["name"] else "public domain"
    noted = any(text.strip() for text in texts[1:]) or "dc:rights" in texts[0]
    return "unnamed" if noted else ""
