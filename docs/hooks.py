"""What makes a site of the repository: its README is the first page, each package has a page of its docstrings, all pictures have
one, and what links to code outside of `docs` leads to the repository, or nowhere."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "build" / "site-package" / "trefoil"  # as mkdocs.yml says
PICTURE = re.compile(r"!\[([^\]]+)\]\(([^)\s]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)")


def on_startup(command: str, dirty: bool) -> None:
    """Put the folders where the installed package has them, since docstrings are read and not imported."""
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
    shutil.rmtree(PACKAGE, ignore_errors=True)
    for name, folder in folders.items():
        place = PACKAGE.joinpath(*name.split(".")[1:])
        shutil.copytree(ROOT / folder, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = {"index.md": ROOT / "README.md", "changelog.md": ROOT / "CHANGELOG.md"}
    texts = {name: _from_root(file.read_text(encoding="utf-8"), config) for name, file in pages.items()}
    texts |= {f"reference/{folder.name}.md": _reference(folder) for folder in [PACKAGE, *_packages()]}
    texts["gallery.md"] = _gallery()
    for name, text in texts.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    return LINK.sub(lambda link: _outside(link, config) if link[2].startswith("../") else link[0], markdown)


def _from_root(markdown: str, config: MkDocsConfig) -> str:
    """A page that lies beside `docs`, as if it lay in it."""

    def moved(link: re.Match[str]) -> str:
        if link[2].startswith(("docs/", "README.md", "CHANGELOG.md")):
            return f"[{link[1]}]({link[2].removeprefix('docs/').replace('README', 'index').replace('CHANGELOG', 'changelog')})"
        return _outside(link, config)

    return LINK.sub(moved, markdown)


def _outside(link: re.Match[str], config: Any) -> str:
    return f"[{link[1]}]({config.repo_url}/blob/main/{link[2].removeprefix('../')})" if config.repo_url else link[1]


def _gallery() -> str:
    """The pictures of all pages, each with what its page says of it."""
    lines = ["# Gallery"]
    for page in sorted((ROOT / "docs").glob("*.md")):
        if pictures := PICTURE.findall(page.read_text(encoding="utf-8")):
            lines.append(f"## [{page.stem}]({page.name})")
            lines += [f"![{words}]({picture})\n\n{words}" for words, picture in pictures]
    return "\n\n".join(lines) + "\n"


def _packages() -> list[Path]:
    return sorted(folder for folder in PACKAGE.iterdir() if folder.is_dir())


def _reference(folder: Path) -> str:
    """A page with each module of a package."""
    name = "trefoil" if folder == PACKAGE else f"trefoil.{folder.name}"
    files = folder.glob("*.py") if folder == PACKAGE else folder.rglob("*.py")
    modules = sorted(file.relative_to(folder).with_suffix("").parts for file in files if not file.name.startswith("_"))
    return "\n".join([f"# {name}", *(f"\n::: {name}.{'.'.join(module)}" for module in modules), ""])
