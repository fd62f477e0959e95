"""What a file is that is no checkpoint, told by its first bytes and the names in an archive."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path

from expunge.disk.reading import open_regular
from expunge.names.text import clean_name

LOOKED_AT = 512
SHOWN = 40
"""Letters of a text that a message shows."""
SAFETENSORS = ".safetensors"
AGAIN = "download the file itself"
UNPACK = "unpack it, and name the checkpoint in it"
CONVERT = "convert it to a state dict of torch"
NAME = "name the file that holds the weights"
BEGINNINGS = {
    b"version https://git-lfs": ("a Git LFS pointer, not the weights", "fetch them: git lfs pull"),
    b"\x89HDF": ("an HDF5 file, as Keras writes", CONVERT),
    b"\x1f\x8b": ("compressed with gzip", UNPACK),
    b"BZh": ("compressed with bzip2", UNPACK),
    b"\xfd7zXZ": ("compressed with xz", UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", UNPACK),
    b"Rar!": ("a RAR archive", UNPACK),
    b"\x93NUMPY": ("an array of numpy", CONVERT),
    b"GGUF": ("a GGUF file", CONVERT),
    b"%PDF": ("a PDF document", AGAIN),
    b"\x89PNG": ("a picture (PNG)", NAME),
    b"\xff\xd8\xff": ("a picture (JPEG)", NAME),
    b"GIF8": ("a picture (GIF)", NAME),
}
"""First bytes -> what begins so, and what to do."""
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""How a text may begin, and what it is then written in."""
INDEX = '"weight_map"'
"""In what says which of several files of safetensors holds which tensor."""


def what_else(file: Path) -> tuple[str, str] | None:
    """What a file is, and the remedy, where it is no checkpoint of its suffix; None: it may be one.

    Raises UnreadableError or OSError for what cannot be read.
    """
    with open_regular(file) as stream:
        head = stream.read(LOOKED_AT)
        size = stream.seek(0, 2)
    named = file.suffix == SAFETENSORS
    if _is_safetensors(head, size):  # first, for the length that it begins with may be any bytes
        told = "it is a safetensors file", f"rename it so that it ends in {SAFETENSORS}"
        return None if named else told
    if not head:
        return "it is empty", "save it, or download it, again"
    for beginning, (what, remedy) in BEGINNINGS.items():
        if head.startswith(beginning):
            return f"it is {what}", remedy
    if _is_onnx(head):
        return "it is an ONNX model", CONVERT
    if head[257:262] == b"ustar":
        return "it is a tar archive", UNPACK
    if zipfile.is_zipfile(file):
        return _of_archive(file, named)
    if named and head.startswith(b"\x80"):
        return (
            "it was written by torch.save or pickle, not by safetensors",
            "rename it to end in .pt",
        )
    text = _text(head)
    return _of_text(text) if text is not None else None


def _text(head: bytes) -> str | None:
    """What a text begins with; None for what is none."""
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return head.removeprefix(mark).decode(encoding, "ignore").strip()
    try:  # the last letter may be cut
        text = codecs.getincrementaldecoder("utf-8")().decode(head).strip()
    except UnicodeDecodeError:
        return None
    plain = all(sign.isprintable() or sign in "\t\r\n" for sign in text)
    return text if text and plain else None


def _of_text(text: str) -> tuple[str, str]:
    """As `what_else`, of a text."""
    if text.startswith("<"):
        return "it is a web page (HTML or XML), not the weights", AGAIN
    if text.startswith("{") and INDEX in text:
        return (
            "it is the index of weights in several files",
            "join them: safetensors.torch.load_file of each, and save_file of all of them into one",
        )
    return f"it is a text, which begins with {clean_name(text[:SHOWN])!r}", NAME


def _is_onnx(head: bytes) -> bool:
    """Whether it begins with the version of the format, from 3, and the name of who wrote it."""
    return head[:1] == b"\x08" and head[2:3] == b"\x12" and 3 <= head[1] < 32


def _is_safetensors(head: bytes, size: int) -> bool:
    """Whether it begins with the length of a header, and a header."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _of_archive(file: Path, named: bool) -> tuple[str, str] | None:
    """As `what_else`, of a zip archive, which torch writes too. named: as a safetensors file is."""
    try:
        with zipfile.ZipFile(file) as archive:
            inside = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return None  # damaged: whoever reads it says so
    ends = {name.rpartition("/")[2] for name in inside}
    if "constants.pkl" in ends:
        return "it is a scripted model (TorchScript)", "save the weights alone: its state_dict()"
    if "data.pkl" in ends:
        told = "it was written by torch.save, not by safetensors", "rename it to end in .pt"
        return told if named else None
    if inside and all(name.endswith(".npy") for name in inside):
        return "it holds arrays of numpy (.npz)", "convert them to a state dict of torch"
    shown = clean_name(inside[0])[:SHOWN] if inside else "nothing"
    return f"it is a zip archive of something else (it holds {shown})", UNPACK
