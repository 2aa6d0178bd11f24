"""The documentation's site: what of it can be broken by a change elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?!https?:|#)([^)\s#]+)")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    for place in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / place).exists(), place


def test_every_picture_is_on_a_page():
    shown = {
        (page.parent / place).resolve() for page in PAGES for place in LINK.findall(page.read_text(encoding="utf-8"))
    }
    assert {*(ROOT / "docs" / "images").rglob("*.png")} <= shown


def test_every_page_is_in_the_contents():
    named = re.findall(
        r"[\w/-]+\.md", yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    )
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= {*named}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    quietly = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # the theme's own advertisement
    process = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env=quietly)
    assert (process.returncode, process.stderr) == (0, "")
    reference = (tmp_path / "reference" / "modeling" / "index.html").read_text(encoding="utf-8")
    assert "scaled_dot_product_attention" in reference
    assert "BLEU against the length of the source" in (tmp_path / "gallery" / "index.html").read_text(encoding="utf-8")
    assert "Train on your own data" in (tmp_path / "index.html").read_text(encoding="utf-8")
