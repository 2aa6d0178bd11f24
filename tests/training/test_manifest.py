import json

import pytest

from trefoil.configuration.errors import UserError
from trefoil.training.manifest import MANIFEST_FILE, damage, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "템플릿.jinja").touch()
    (tmp_path / "weights").write_bytes(bytes(range(256)) * 20_000)  # more than is read at once
    write_manifest(tmp_path)
    return tmp_path


def test_it_holds_the_checksum_of_every_file_but_itself(folder):
    checksums = read_manifest(folder)
    assert checksums.keys() == {"inner/템플릿.jinja", "weights"}
    assert checksums["inner/템플릿.jinja"] == "99aa06d3014798d86001c324468d497f"  # XXH3 of nothing
    assert all(damage(folder / name, checksum) is None for name, checksum in checksums.items())
    before = (folder / MANIFEST_FILE).read_bytes()
    write_manifest(folder)
    assert (folder / MANIFEST_FILE).read_bytes() == before


def test_what_is_wrong_with_a_file_is_said(folder):
    checksum = read_manifest(folder)["weights"]
    with (folder / "weights").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\0")
    assert damage(folder / "weights", checksum) == (
        "is damaged (its checksum is not the one with which it was written)"
    )
    assert damage(folder / "none", checksum) == "is missing"
    assert damage(folder / "inner", checksum).startswith("is damaged ([Errno ")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 9999, b'{"weights": 1}', b'{\n"weights":  "x"\n}'],
    ids=lambda content: content[:12].decode(errors="replace"),
)
def test_one_that_is_not_as_it_was_written_is_damaged(folder, content):
    (folder / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json is damaged \(.+\)") as error:
        read_manifest(folder)
    assert "\n" not in str(error.value)


def test_white_space_counts(folder):
    file = folder / MANIFEST_FILE
    file.write_text(json.dumps(json.loads(file.read_text())))
    with pytest.raises(UserError, match="spelled otherwise than it is written"):
        read_manifest(folder)
