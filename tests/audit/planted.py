"""Photos and scans that carry what must never leave them: a place, an owner, a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

Base, GPS, IFD = ExifTags.Base, ExifTags.GPS, ExifTags.IFD
# 48 deg 11' 23.57" N is 48.18988: digits that no other number has by accident.
LATITUDE, LONGITUDE = (48, 11, 23.57), (16, 22, 41.39)
DECIMAL = tuple(round(d + m / 60 + s / 3600, 7) for d, m, s in (LATITUDE, LONGITUDE))
OWNER, SERIAL, PERSON = "Wilhelmine Zacherl", "SN-7741-PLANTED", "Ottokar Prohaska"
PATIENT, PATIENT_ID, BIRTHDAY = "Hrdlicka^Josefine", "PID-88213-PLANTED", "19370911"
PHYSICIAN, NOTE = "Semmelweis^Ignaz", "kommt aus Purkersdorf"
# What must never be found again, as it may stand in a file of bytes.
PLANTED = (
    *(OWNER, SERIAL, PERSON, PATIENT, PATIENT_ID, BIRTHDAY, PHYSICIAN, NOTE),
    *("Hrdlicka", "Josefine", "Zacherl", "Prohaska", "Semmelweis", "1937-09-11"),
    *(f"{number:.4f}"[:-1] for number in DECIMAL),
)
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    '"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:exif='
    '"http://ns.adobe.com/exif/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:cc="http://creativecommons.org/ns#"'
    ' exif:GPSLatitude="48,11.3928N"><Iptc4xmpExt:PersonInImage><rdf:Bag>'
    f"<rdf:li>{PERSON}</rdf:li></rdf:Bag></Iptc4xmpExt:PersonInImage>"
    "<dc:creator><rdf:Seq><rdf:li>" + OWNER + "</rdf:li></rdf:Seq></dc:creator>"
    '<cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
).encode()


def tags(orientation: int = 1) -> Image.Exif:
    """EXIF of a photo with all that a camera and its owner can leave."""

    def degrees(parts: tuple[float, float, float]) -> tuple[IFDRational, ...]:
        return tuple(IFDRational(round(part * 100), 100) for part in parts)

    exif = Image.Exif()
    exif.update({
        Base.Make: "Contax", Base.Model: "T2", Base.Orientation: orientation,
        Base.Artist: OWNER, Base.Copyright: f"(c) {OWNER}", Base.DateTime: "2024:05:01 10:00:00",
    })  # fmt: skip
    details: dict[int, object] = {
        Base.BodySerialNumber: SERIAL, Base.CameraOwnerName: OWNER,
        Base.MakerNote: SERIAL.encode(), Base.UserComment: b"ASCII\0\0\0" + NOTE.encode(),
        Base.DateTimeOriginal: "2024:05:01 10:00:00",
    }  # fmt: skip
    place: dict[int, object] = {
        GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: degrees(LATITUDE),
        GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: degrees(LONGITUDE),
    }  # fmt: skip
    exif.get_ifd(IFD.Exif).update(details)
    exif.get_ifd(IFD.GPSInfo).update(place)
    return exif


def photo(path: Path, image: Image.Image, *, orientation: int = 1, icc: bytes = b"") -> Path:
    """Write an image with all of it, as its suffix says: JPEG, PNG, WebP or TIFF."""
    exif = tags(orientation)
    more: dict[str, Any] = {"icc_profile": icc} if icc else {}
    if path.suffix == ".png":
        info = PngInfo()
        info.add_text("Author", OWNER)
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        more["pnginfo"] = info
    elif path.suffix == ".tif":  # Pillow writes these only if they are values there
        exif.update({one: dict(exif.get_ifd(one)) for one in (IFD.Exif, IFD.GPSInfo)})
    else:
        more["xmp"] = XMP
    if path.suffix == ".jpg":
        more |= {"comment": NOTE.encode(), "quality": 90}
    image.save(path, exif=exif, **more)
    return path


def scan(path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    """Write a DICOM file, 8-bit grey, of a patient."""
    import pydicom  # noqa: PLC0415 - an extra
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415

    found = pydicom.Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    found.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5.6.7741"
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5.6.7741"
    found.StudyInstanceUID = "1.2.3.4.5.6.1"
    found.PatientName, found.PatientID, found.PatientBirthDate = PATIENT, PATIENT_ID, BIRTHDAY
    found.ReferringPhysicianName, found.PatientComments = PHYSICIAN, NOTE
    found.PatientSex, found.Modality, found.Manufacturer = "F", "MR", "Siemens"
    found.StudyDate, found.InstitutionName, found.BurnedInAnnotation = "20240501", OWNER, "YES"
    found.add_new(0x00091001, "LO", PATIENT)  # a private tag
    step = pydicom.Dataset()
    step.PerformingPhysicianName = PHYSICIAN
    found.add_new(0x00081111, "SQ", [step])
    found.Rows, found.Columns = pixels.shape
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit, found.PixelRepresentation, found.SamplesPerPixel = 7, 0, 1
    found.PhotometricInterpretation = "MONOCHROME2"
    found.PixelData = pixels.astype(np.uint8).tobytes()
    found.save_as(path, enforce_file_format=True)
    return path
