"""What a file is that is no checkpoint, told by its first bytes and the names in an archive."""

from __future__ import annotations

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
BEGINNINGS = {
    b"version https://git-lfs": ("a Git LFS pointer, not the weights", "fetch them: git lfs pull"),
    b"\x89HDF": ("an HDF5 file, as Keras writes", "convert it to a state dict of torch"),
    b"\x1f\x8b": ("compressed with gzip", UNPACK),
    b"BZh": ("compressed with bzip2", UNPACK),
    b"\xfd7zXZ": ("compressed with xz", UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", UNPACK),
    b"\x93NUMPY": ("an array of numpy", "convert it to a state dict of torch"),
    b"GGUF": ("a GGUF file", "convert it to a state dict of torch"),
    b"%PDF": ("a PDF document", AGAIN),
}
"""First bytes -> what begins so, and what to do."""
PAGES = (b"<!doctype html", b"<html", b"<?xml")


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
    if head.lstrip().lower().startswith(PAGES):
        return "it is a web page (HTML or XML), not the weights", AGAIN
    if head[257:262] == b"ustar":
        return "it is a tar archive", UNPACK
    if zipfile.is_zipfile(file):
        return _of_archive(file, named)
    if named and head.startswith(b"\x80"):
        return (
            "it was written by torch.save or pickle, not by safetensors",
            "rename it to end in .pt",
        )
    text = head.strip()
    if text and all(sign in b"\t\r\n" or 32 <= sign < 127 for sign in text):
        shown = clean_name(text[:SHOWN].decode("ascii"))
        return f"it is a text, which begins with {shown!r}", "name the file that holds the weights"
    return None


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
