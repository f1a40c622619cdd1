"""The documents name files, commands, settings and targets that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from generation.config import Recipe
from pipeline.curation.config import Config

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/scale.md", "infra/README.md")
FOLDERS = ("benchmarks", "docs", "examples", "generation", "infra", "models", "pipeline", "stages", "tests")
FILES = (".html", ".json", ".md", ".mp4", ".py", ".srt", ".txt", ".yaml")
EXAMPLES = ("yourstage",)
"""Parts of paths that a reader is to make."""


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def quoted(document: str) -> list[str]:
    """Return the texts between backticks, and the lines of indented and fenced code."""
    text = text_of(document)
    return re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4}(\S.*)$", text, re.M)


def has(model: type[BaseModel], key: str) -> bool:
    """Return whether a dotted key is one of a tree of settings."""
    head, _, rest = key.partition(".")
    field = model.model_fields.get(head)
    if field is None:
        return False
    inner = field.annotation
    return not rest or not (isinstance(inner, type) and issubclass(inner, BaseModel)) or has(inner, rest)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_exist(document: str) -> None:
    folder = (ROOT / document).parent
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text_of(document)) if "://" not in link]
    assert [link for link in links if not (folder / link).exists()] == []
    paths = {
        word.strip(".,:;()'\"")
        for code in quoted(document)
        for word in code.split()
        if word.startswith(tuple(f"{name}/" for name in FOLDERS)) and not re.search(r"[A-Z*{]{2}", word)
    }
    missing = [
        path for path in paths if not (ROOT / path).exists() and not any(e in path for e in EXAMPLES)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document: str) -> None:
    commands = {path.stem for path in ROOT.glob("*/cli/*.py")}
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.M))
    for code in quoted(document):
        for name in re.findall(r"\bvideoauteur ([a-z]+)\b", code):
            assert name in commands, code
        for name in re.findall(r"\bpython -m ((?:\w+\.)+\w+)", code):
            assert (ROOT / f"{name.replace('.', '/')}.py").exists() or name == "benchmarks.NAME", code
        for name in re.findall(r"^make ([a-z-]+)", code):
            assert name in targets, code


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_exist(document: str) -> None:
    sections = {**dict.fromkeys(Recipe.model_fields, Recipe), **dict.fromkeys(Config.model_fields, Config)}
    for code in quoted(document):
        for key in re.findall(r"(?<![\w./-])([a-z_]+(?:\.[a-z_]+)+)(?![\w(/.])", code):
            section = sections.get(key.partition(".")[0])
            if section is not None and not key.endswith(FILES):
                assert has(section, key), key
