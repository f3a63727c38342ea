"""Parse docs/recipes.md: the files and the shell scripts of each section."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "recipes.md"
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE: Final = re.compile(r"# ([\w./-]+\.(?:yaml|sh|py))\n")


@dataclass(frozen=True)
class Recipe:
    """A section of the page."""

    name: str
    """The title, as in the anchor of the section's URL."""
    files: dict[str, str]
    scripts: tuple[str, ...]
    """The scripts in their order. All files must exist before the first."""

    def write(self, folder: Path) -> None:
        """Write the files to the paths that the scripts use."""
        for name, content in self.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)


def recipes() -> list[Recipe]:
    """Return all recipes of the page. Each has at least one script."""
    return list(_sections(PAGE.read_text()))


def _sections(page: str) -> Iterator[Recipe]:
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        files, scripts = {}, []
        for language, content in _BLOCK.findall(text):
            name = _FILE.match(content)
            if name:
                files[name[1]] = content
            else:
                assert language == "sh", f"{title}: a block of {language} without a file's name"
                scripts.append(content)
        assert scripts, f"{title}: nothing to run"
        yield Recipe(re.sub(r"[^a-z0-9]+", "-", title.lower()), files, tuple(scripts))
