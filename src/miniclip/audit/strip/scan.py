"""A DICOM file with its picture, its geometry and its machine, and nothing of the patient.

The Basic Application Level Confidentiality Profile of DICOM PS3.15, annex E, lists what has to go.
This is stricter: it lists what stays, so that whatever is not known to be harmless goes: private
tags, all names, dates, texts and overlays. UIDs become others, equal ones the same other one.
Pixels stay as they are stored, compressed or not.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

from miniclip.errors import ImageError, MissingExtraError

METHOD = "miniclip: kept picture, geometry and machine, nothing else"
_KEPT = frozenset((
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality",
    "Manufacturer", "ManufacturerModelName", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "BodyPartExamined", "Laterality", "ImageLaterality", "ViewPosition",
    "PatientPosition", "SliceThickness", "SpacingBetweenSlices", "KVP", "RepetitionTime",
    "EchoTime", "InversionTime", "FlipAngle", "MagneticFieldStrength", "ScanningSequence",
    "SequenceVariant", "ScanOptions", "MRAcquisitionType", "ImagePositionPatient",
    "ImageOrientationPatient", "SliceLocation", "InstanceNumber", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "PlanePositionSequence", "PlaneOrientationSequence",
    "PixelMeasuresSequence", "PixelValueTransformationSequence", "FrameVOILUTSequence",
    "ModalityLUTSequence", "VOILUTSequence", "PixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
))  # fmt: skip
# Type 2 of the modules that every image has: they have to be there, and may be empty.
_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "StudyID", "SeriesNumber",
)  # fmt: skip
_PIXEL_GROUP = 0x0028
_WORDS = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT", "DA", "TM", "DT", "AS"))


def strip_dicom(data: bytes, salt: bytes) -> bytes:
    """Return the file without identities; ImageError where the pixels themselves hold text.

    salt: secret bytes, the same for files whose UIDs are to go on agreeing. Who knows the old UIDs
    cannot find the new ones without it.
    """
    try:
        import pydicom  # noqa: PLC0415 -- an optional extra
        from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: PLC0415
    except ImportError:
        raise ImageError(str(MissingExtraError("a DICOM image", "dicom"))) from None
    found = pydicom.dcmread(BytesIO(data), force=True)
    if str(found.get("BurnedInAnnotation", "")).upper() == "YES":
        raise ImageError(
            "the file says that text is burnt into its pixels; blacken the text and set "
            "BurnedInAnnotation to NO"
        )
    if "SOPClassUID" not in found or "TransferSyntaxUID" not in found.file_meta:
        raise ImageError("a DICOM file without its class or transfer syntax; write it again")
    kept = _thin(found, salt)
    for keyword in _EMPTY:
        setattr(kept, keyword, "")
    kept.PatientIdentityRemoved, kept.DeidentificationMethod = "YES", METHOD
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kept.SOPClassUID
    meta.MediaStorageSOPInstanceUID = kept.get("SOPInstanceUID", _other_uid("", salt))
    meta.TransferSyntaxUID = found.file_meta.TransferSyntaxUID
    stream = BytesIO()
    file = FileDataset(stream, kept, file_meta=meta, preamble=b"\0" * 128)
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _thin(dataset: Any, salt: bytes) -> Any:
    """Keep what is listed, in sequences too."""
    import pydicom  # noqa: PLC0415 -- an optional extra

    kept = pydicom.Dataset()
    for element in dataset:
        of_pixels = element.tag.group == _PIXEL_GROUP and element.VR not in _WORDS
        if element.tag.is_private or not (of_pixels or element.keyword in _KEPT):
            continue
        if element.VR == "SQ":
            element.value = [_thin(item, salt) for item in element.value]
        elif element.VR == "UI" and not element.keyword.endswith("ClassUID"):
            element.value = _other_uid(str(element.value), salt)
        kept.add(element)
    return kept


def _other_uid(uid: str, salt: bytes) -> str:
    """Return a UID below 2.25 (PS3.5, B.2) that hangs on the old one and the salt."""
    digest = hashlib.blake2b(uid.encode(), key=salt, digest_size=16).digest()
    return f"2.25.{int.from_bytes(digest, 'big')}"
