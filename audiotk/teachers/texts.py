"""From texts to embeddings: the tokenizer of a text tower, checked, and texts of like length together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiotk.errors import AudiotkError

__all__ = ["TextReader", "load_tokenizer", "tokenizer_checksum"]

LONGEST = 77  # tokens that LAION's and Microsoft's text towers were trained on, at most
STEP = 8  # a text is padded to the next multiple of this, whatever other texts there are
AT_ONCE = 64  # texts
PROBES = ("a dog barking", "heavy rain on a roof", "a woman singing")  # unlike; no working CLAP embeds them alike
ALIKE = 0.99  # cosine


class TextReader:
    """Texts -> embeddings (n, dim), float32, of any norm.

    The tokenizer is found and checked when the first text comes, so that sound can be embedded without one.

    Parameters
    ----------
    name
        Of the teacher, for messages.
    tokenizer
        Gives the tokenizer; called once.
    encode
        (token numbers, mask), both (n, tokens) -> embeddings (n, dim).
    end
        What is put behind every text.
    device
        Where `encode` computes.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Callable[[], Any],
        encode: Callable[[Tensor, Tensor], Tensor],
        end: str = "",
        device: str | torch.device = "cpu",
    ) -> None:
        self.name, self.encode, self.end, self.device = name, encode, end, device
        self._find, self._found = tokenizer, None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer; looked for when first asked.

        Raises
        ------
        AudiotkError
            There is none, or three texts that have nothing in common get one embedding with it.
        """
        if self._found is None:
            found = self._find()
            units = F.normalize(self._embed(found, list(PROBES)), dim=-1)
            if (units @ units.T).min() > ALIKE:
                raise AudiotkError(
                    f"{self.name}: gives {', '.join(map(repr, PROBES))} the same embedding (cosine above {ALIKE}); "
                    "its tokenizer or its weights are not those of this model"
                )
            self._found = found
        return self._found

    def __call__(self, texts: list[str]) -> Tensor:
        """(n, dim)."""
        if bad := [text for text in texts if not isinstance(text, str) or not text.strip()]:
            raise AudiotkError(f"{self.name}: expected texts that are not empty, got {bad[0]!r}")
        if not texts:
            raise AudiotkError(f"{self.name}: expected at least one text, got none")
        return self._embed(self.tokenizer, texts)

    def _embed(self, tokenizer: Any, texts: list[str]) -> Tensor:
        tokens = [tokenizer(text + self.end)["input_ids"] for text in texts]
        groups: dict[int, list[int]] = defaultdict(list)
        for place, numbers in enumerate(tokens):
            if len(numbers) > LONGEST:
                raise AudiotkError(
                    f"{self.name}: reads {LONGEST} tokens at most, got {len(numbers)}: {texts[place][:60]!r}"
                )
            groups[-(-len(numbers) // STEP) * STEP].append(place)
        found: dict[int, Tensor] = {}
        for length, places in groups.items():
            for start in range(0, len(places), AT_ONCE):
                part = places[start : start + AT_ONCE]
                numbers = torch.full((len(part), length), tokenizer.pad_token_id)
                mask = torch.zeros_like(numbers)
                for row, place in enumerate(part):
                    numbers[row, : len(tokens[place])] = torch.tensor(tokens[place])
                    mask[row, : len(tokens[place])] = 1
                with torch.inference_mode():
                    embedded = self.encode(numbers.to(self.device), mask.to(self.device)).float()  # (part, dim)
                found |= dict(zip(part, embedded, strict=True))
        return torch.stack([found[place] for place in range(len(texts))])  # (n, dim)


def load_tokenizer(kind: str, folder: Path, rows: int, pad_id: int, pad: str | None = None, exact: bool = True) -> Any:
    """A tokenizer from the files in a folder, of as many tokens as the text tower has embeddings.

    Without its files transformers gives a tokenizer of five tokens and says nothing: every text would embed alike.

    Parameters
    ----------
    kind
        Class of transformers.
    folder
        Where its files lie; the network is not asked.
    rows
        Word embeddings of the text tower.
    pad_id
        Number that the text tower takes for filling.
    pad
        Token to fill up with, if the tokenizer has none of its own; it must exist.
    exact
        False: up to 128 embeddings may be without a token.

    Raises
    ------
    AudiotkError
        It cannot be read, or is of another size, or fills up with another number.
    """
    import transformers

    try:
        tokenizer = getattr(transformers, kind).from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise AudiotkError(f"{folder}: holds no tokenizer that can be read: {err}") from err
    if pad is not None:
        tokenizer.add_special_tokens({"pad_token": pad})
    size = len(tokenizer)
    if not (size == rows if exact else rows - 128 < size <= rows):
        raise AudiotkError(
            f"{folder}: its tokenizer has {size} tokens, the text tower {rows} word embeddings; it is the tokenizer of "
            "another model, or its files are missing or damaged"
        )
    if tokenizer.pad_token_id != pad_id:
        raise AudiotkError(
            f"{folder}: its tokenizer fills up with token {tokenizer.pad_token_id}, the text tower expects {pad_id}; "
            "it is the tokenizer of another model"
        )
    return tokenizer


def tokenizer_checksum(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer's whole definition, in hex."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
