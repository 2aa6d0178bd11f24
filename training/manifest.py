"""The checksum (XXH3, 128 bits) of each file of a folder, written down beside them: of a checkpoint, and of what is published."""

import json
from collections.abc import Mapping
from pathlib import Path

from ..configuration.errors import UserError, reason

MANIFEST_FILE = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Write down the checksum of each file of a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST_FILE)
    checksums = {file.relative_to(folder).as_posix(): _checksum(file) for file in files}
    (folder / MANIFEST_FILE).write_bytes(_spelled(checksums))


def read_manifest(folder: Path) -> dict[str, str]:
    """The checksum that each file had when it was written, by its path in the folder.

    Raises:
        UserError: The manifest itself is not as it was written.
    """
    file = folder / MANIFEST_FILE
    try:
        content = file.read_bytes()
        checksums = json.loads(content)
        if not isinstance(checksums, dict) or content != _spelled(checksums):
            raise ValueError("it is spelled otherwise than it is written")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder}: {MANIFEST_FILE} is damaged ({reason(error)})") from None
    return checksums


def damage(file: Path, checksum: str) -> str | None:
    """What is wrong with a file, to be said after its name; None where its content has this checksum."""
    try:
        if _checksum(file) == checksum:
            return None
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"is damaged ({reason(error)})"
    return "is damaged (its checksum is not the one with which it was written)"


def _spelled(checksums: Mapping[str, str]) -> bytes:
    return json.dumps(checksums, indent=0).encode()


def _checksum(file: Path) -> str:
    import xxhash  # not installed where models are only used

    checksum = xxhash.xxh3_128()
    with file.open("rb") as content:
        while part := content.read(2**22):
            checksum.update(part)
    return checksum.hexdigest()
