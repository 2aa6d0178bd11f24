"""Tests mirror the folders: what is held of `folder/file.py` stands in `tests/folder/test_file.py`, or, where that would be
long, in `tests/folder/test_file_aspect.py`."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent

ELSEWHERE = {"package": "trefoil"}  # `tests/trefoil` could be imported for the package
OTHERS_TOOLS = {"ecosystem", "engines"}  # a file each
# in a mirrored folder, and yet of no one file
OF_SEVERAL = {
    "hub/test_strangers.py": "every command that opens a folder",
    "modeling/test_generation.py": "every family that generates",
    "modeling/test_initialization.py": "every family",
    "modeling/test_packing.py": "every family that reads packed rows",
}


def file_of(file):
    """The module or package that a test file is of, if there is one."""
    top, *inside = file.relative_to(TESTS).parent.parts
    folder = ROOT.joinpath(ELSEWHERE.get(top, top), *inside)
    words = file.stem.removeprefix("test_").split("_")
    for count in range(len(words), 0, -1):
        place = folder / "_".join(words[:count])
        if place.with_suffix(".py").is_file() or list(place.glob("*.py")):
            return place
    return None


def test_every_test_file_has_its_file():
    files = [file for file in TESTS.rglob("test_*.py") if file.parent != TESTS]
    mirrored = [file for file in files if file.relative_to(TESTS).parts[0] not in OTHERS_TOOLS]
    assert len(mirrored) > 50
    without = {file.relative_to(TESTS).as_posix() for file in mirrored if file_of(file) is None}
    assert without == OF_SEVERAL.keys()


def test_the_mirror_is_not_blind():
    assert file_of(TESTS / "data" / "test_packing.py") == ROOT / "data" / "packing"
    assert file_of(TESTS / "data" / "test_packing_of_pictures.py") == ROOT / "data" / "packing"
    assert file_of(TESTS / "data" / "test_formats.py") == ROOT / "data" / "formats"
    assert file_of(TESTS / "package" / "test_cli.py") == ROOT / "trefoil" / "cli"
    assert file_of(TESTS / "data" / "test_pictures.py") is None
    assert file_of(TESTS / "nowhere" / "test_packing.py") is None
