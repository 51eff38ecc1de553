"""Prompt sets: your classes, and what each of them means to a teacher. A small YAML file holds one.

.. code-block:: yaml

    prefix: "This is a sound of "       # goes before every text
    classes:
      dog: dog barking                  # one text,
      cat: [cat meow, a cat purring]    # or several, whose embeddings are averaged
    background: [silence, background noise]   # what is none of the classes; used by the reading "background"

For a teacher with classes of its own (a tagger) the texts are names of these and no prefix is used; where there are
several, the highest score counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiotk.errors import AudiotkError

__all__ = ["P1", "Prompts"]

P1 = Path(__file__).with_name("prompts_p1.yaml")  # Table 1 of P1
KEYS = ("prefix", "classes", "background")


@dataclass(frozen=True)
class Prompts:
    """Classes with their texts.

    Attributes
    ----------
    classes
        Class name -> one text or several; kept as tuples, in this order.
    prefix
        Goes before every text, those of the background included.
    background
        Texts of what is none of the classes.

    Raises
    ------
    AudiotkError
        No class, a class without text, or a text that is empty or none at all.
    """

    classes: Mapping[str, tuple[str, ...]]
    prefix: str = ""
    background: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        put = object.__setattr__
        if not isinstance(self.classes, Mapping) or not self.classes:
            raise AudiotkError(f"prompts: expected classes with their texts, got {self.classes!r}")
        put(self, "classes", {_name(name): _texts(texts, f"class {name!r}") for name, texts in self.classes.items()})
        put(self, "background", _texts(self.background, "background") if self.background else ())
        if not isinstance(self.prefix, str):
            raise AudiotkError(f"prompts: expected a text as prefix, got {self.prefix!r}")

    @classmethod
    def read(cls, path: str | Path) -> Prompts:
        """Read a YAML file as the one in the description of this module.

        Raises
        ------
        AudiotkError
            The file cannot be read, is no such YAML, or has an unknown key.
        """
        import yaml

        try:
            found = yaml.load(Path(path).read_text("utf-8-sig"), _loader())
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as err:
            raise AudiotkError(f"{path}: cannot be read as a YAML file of prompts: {err}") from err
        if not isinstance(found, dict) or "classes" not in found:
            raise AudiotkError(f"{path}: expected the keys {', '.join(KEYS)} (classes at least), got {found!r:.80}")
        if unknown := set(found) - set(KEYS):
            raise AudiotkError(f"{path}: unknown key {sorted(map(str, unknown))[0]!r}; known: {', '.join(KEYS)}")
        try:
            return cls(found["classes"], found.get("prefix") or "", found.get("background") or ())
        except AudiotkError as err:
            raise AudiotkError(f"{path}: {err}") from err

    @classmethod
    def of(cls, classes: Sequence[str], prefix: str = "") -> Prompts:
        """Each class by its own name."""
        return cls({name: (name,) for name in classes}, prefix)

    def texts(self) -> list[tuple[int, str]]:
        """(class number, whole text) of every text; the background's are numbered behind the classes."""
        groups = [*self.classes.values(), *((text,) for text in self.background)]
        return [(place, self.prefix + text) for place, group in enumerate(groups) for text in group]

    def about(self) -> dict[str, Any]:
        """As JSON can hold it; ``Prompts(**about)`` gives it again."""
        return {
            "classes": {name: list(texts) for name, texts in self.classes.items()},
            "prefix": self.prefix,
            "background": list(self.background),
        }

    @property
    def checksum(self) -> str:
        """SHA-256 of all texts and names, in hex."""
        return hashlib.sha256(json.dumps(self.about()).encode()).hexdigest()


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise AudiotkError(f"prompts: expected a text as class name, got {name!r}; put it in quotes")
    return name


def _texts(texts: Any, where: str) -> tuple[str, ...]:
    several = (texts,) if isinstance(texts, str) else texts
    good = isinstance(several, Sequence) and len(several) and all(isinstance(t, str) and t.strip() for t in several)
    if not good:
        raise AudiotkError(f"prompts: {where}: expected a text or several, got {texts!r}; put texts in quotes")
    return tuple(several)


def _loader() -> Any:
    """A safe loader that refuses a key that stands twice, which YAML's would silently overwrite."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"{twice[0]!r} stands twice{node.start_mark}")
        return {
            key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)
        }

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return Loader
