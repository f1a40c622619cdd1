"""Configuration: a tree of sections, one YAML file, ``--set a.b=value``.

Keys are refused when they are unknown, of the wrong type or out of range; the message names the key's
path and the nearest valid one. The trees themselves belong to the programs: see
:mod:`pipeline.curation.config` and :mod:`generation.config`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import ValidationError

from models.errors import UsageError
from models.redaction import Redactor
from models.settings import Section


class ConfigError(UsageError):
    """The configuration cannot be used; the text says which key, why, and what is near."""


SETTING = "--set"
"""Origin of values that the command line set."""
Tree = TypeVar("Tree", bound=Section)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[Tree]):
    """A configuration and where each value that is not a default came from, by dotted path."""

    config: Tree
    origins: Mapping[str, str]


def load(
    file: Path | None, settings: Sequence[str], kind: type[Tree], *, option: str = "--config"
) -> Loaded[Tree]:
    """Defaults, then the file, then ``a.b=value`` settings; values are read as YAML.

    Args:
        kind: the tree to fill.
        option: that names the file, for messages.

    Raises:
        ConfigError: naming the file or setting, the key and the way out.
    """
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if file is not None:
        try:
            read = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"{option} {file}: {error.strerror}") from error
        except (UnicodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{option} {file}: is not YAML in UTF-8: {error}") from error
        if not isinstance(read, dict):
            raise ConfigError(f"{option} {file}: expected sections at the top, found {read!r:.60}")
        tree = read
        origins.update({path: str(file) for path, _ in leaves(tree)})
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set {setting}: expected a.b=value")
        path, parsed = path.strip(), _value(setting, value)
        _put(tree, path.split("."), parsed, setting)
        # A section that is set as a whole takes the place of what was there.
        origins = {key: origin for key, origin in origins.items() if not f"{key}.".startswith(f"{path}.")}
        origins.update({leaf: SETTING for leaf, _ in leaves({path: parsed})})
    try:
        # Over the tree's own defaults: a section may have others than its class has.
        return Loaded(config=kind.model_validate(_over(kind().model_dump(), tree)), origins=origins)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, kind, origins))) from error


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything that is not a section."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def describe(loaded: Loaded[Tree]) -> str:
    """The effective tree as YAML; a comment says where each value came from."""
    lines: list[str] = []

    def write(tree: Mapping[str, Any], prefix: str, depth: int) -> None:
        for key, value in tree.items():
            path, indent = f"{prefix}{key}", "  " * depth
            if isinstance(value, Mapping):
                lines.append(f"{indent}{key}:")
                write(value, f"{path}.", depth + 1)
            else:
                shown = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
                lines.append(f"{indent}{key}: {shown}  # {loaded.origins.get(path, 'default')}")

    write(loaded.config.model_dump(mode="json"), "", 0)
    return "\n".join(lines) + "\n"


def _over(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults with what is given in their place, section by section."""
    merged = dict(defaults)
    for key, value in given.items():
        default = defaults.get(key)
        both = isinstance(value, Mapping) and isinstance(default, Mapping)
        merged[key] = _over(default, value) if both and default is not None else value
    return merged


def _value(setting: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting}: {error}") from error


def _put(tree: dict[str, Any], keys: list[str], value: Any, setting: str) -> None:
    for key in keys[:-1]:
        branch = tree.setdefault(key, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"--set {setting}: {key} is a value, not a section")
        tree = branch
    tree[keys[-1]] = value


def _explain(error: ValidationError, kind: type[Section], origins: Mapping[str, str]) -> Iterator[str]:
    """Yield a line a problem; one in a file names the file."""
    for path, message in _problems(error, kind):
        # Either may be a part of the other: a section as a whole, or an item of a list.
        within = {
            key for key in origins if f"{key}.".startswith(f"{path}.") or f"{path}.".startswith(f"{key}.")
        }
        file = next((origins[key] for key in sorted(within) if origins[key] != SETTING), None)
        text = f"{path}: {message}" if path else message
        yield text if file is None else f"{text}; in {file}"


def _problems(error: ValidationError, kind: type[Section]) -> Iterator[tuple[str, str]]:
    valid = [path for path, _ in leaves(kind().model_dump())]
    sections = sorted({path.rpartition(".")[0] for path in valid})
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path, [*valid, *sections], n=1, cutoff=0.0)
            yield path, f"there is no such key; the nearest is {near[0]}"
        elif problem["type"].startswith(("model_type", "dict_type")):
            yield path, f"this is a section and takes keys, not {problem['input']!r:.60}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = Redactor().text(f"{problem['input']!r:.80}")
            whole = isinstance(problem["input"], dict)
            yield path, message if whole or not path else f"{message} (got {given})"
