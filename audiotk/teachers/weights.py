"""Where released weights and tokenizers lie, or go: an explicit path, then the cache, then a download. No torch."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from audiotk.errors import AudiotkError
from audiotk.files import cache_dir

__all__ = [
    "LAION",
    "MICROSOFT",
    "TOKENIZERS",
    "Released",
    "digest",
    "find_tokenizer",
    "find_weights",
    "has_tokenizer",
    "teachers_dir",
]


@dataclass(frozen=True)
class Released:
    """A file that its authors have put on a public page.

    `sha256` is None: the released files could not be had where audiotk was written, so none of their hashes is known
    to us. What was loaded is hashed, and the hash is stored with everything that is computed with it.
    """

    file: str
    page: str
    sha256: str | None = None

    @property
    def url(self) -> str:
        """Where the file itself can be downloaded."""
        return f"https://{self.page}/resolve/main/{self.file}"


LAION_PAGE = "huggingface.co/lukewys/laion_clap"
# The four that the package laion-clap downloads, and the ones of its page for music and speech; the first is ours.
LAION = tuple(
    Released(file, LAION_PAGE)
    for file in (
        "630k-audioset-best.pt",
        "630k-best.pt",
        "630k-audioset-fusion-best.pt",
        "630k-fusion-best.pt",
        "music_audioset_epoch_15_esc_90.14.pt",
        "music_speech_audioset_epoch_15_esc_89.98.pt",
        "music_speech_epoch_15_esc_89.25.pt",
    )
)
MICROSOFT = (Released("CLAP_weights_2023.pth", "huggingface.co/microsoft/msclap"),)
# Folder in the cache -> public page; a tokenizer is two text files there.
TOKENIZERS = {"roberta-base": "huggingface.co/FacebookAI/roberta-base", "gpt2": "huggingface.co/openai-community/gpt2"}
TOKENIZER_FILES = ("vocab.json", "merges.txt")


def teachers_dir() -> Path:
    """Folder of the cache for weights and tokenizers of teachers."""
    return cache_dir() / "teachers"


def find_weights(
    weights: str | Path | None, released: tuple[Released, ...], sha256: str | None = None
) -> tuple[Path, str]:
    """Path and SHA-256 of a file of weights.

    Parameters
    ----------
    weights
        Path of a file; or the name of a released one, which is looked for in the cache (its folder ``teachers``) and
        else downloaded there; None: the first of `released`.
    released
        Files that this teacher knows by name.
    sha256
        What the file's hash must be, in hex; None accepts any, unless the hash of a released file is known.

    Raises
    ------
    AudiotkError
        There is no such file and it cannot be downloaded (the text says which file to put where), or another hash.
    """
    name = released[0].file if weights is None else str(weights)
    if weights is not None and Path(weights).is_file():
        path, known = Path(weights), None
    elif (found := next((one for one in released if one.file == name), None)) is not None:
        path, known = _cached(found), found.sha256
    else:
        names = ", ".join(one.file for one in released)
        raise AudiotkError(f"{name}: there is no such file; give the path of one, or a name of these: {names}")
    checksum = digest(path)
    if (wanted := sha256 or known) is not None and wanted.lower() != checksum:
        raise AudiotkError(
            f"{path}: has the SHA-256 {checksum}, expected {wanted.lower()}: it is another file, or damaged; "
            "delete it and fetch it again"
        )
    return path, checksum


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises
    ------
    AudiotkError
        It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise AudiotkError(f"{path}: cannot be read: {err.strerror or err}") from err


def find_tokenizer(tokenizer: str | Path | None, name: str) -> Path:
    """Folder with the files of a tokenizer.

    Parameters
    ----------
    tokenizer
        The folder, with ``vocab.json`` and ``merges.txt`` or with ``tokenizer.json``; None: looked for in our cache,
        then in that of Hugging Face, else downloaded to ours.
    name
        Of the tokenizer, see `TOKENIZERS`.

    Raises
    ------
    AudiotkError
        It is nowhere and cannot be downloaded; the text says which files to put where.
    """
    if tokenizer is not None:
        if not has_tokenizer(Path(tokenizer)):
            wanted = " and ".join(TOKENIZER_FILES)
            raise AudiotkError(
                f"{tokenizer}: expected a folder with {wanted}, or tokenizer.json, of {name}'s tokenizer"
            )
        return Path(tokenizer)
    folder = teachers_dir() / name
    if has_tokenizer(folder):
        return folder
    if (cached := _in_cache_of_transformers(name)) is not None:
        return cached
    page = TOKENIZERS[name]
    for file in TOKENIZER_FILES:
        _download(Released(file, page), folder)
    return folder


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the files of a tokenizer."""
    return (folder / "tokenizer.json").is_file() or all((folder / file).is_file() for file in TOKENIZER_FILES)


def _in_cache_of_transformers(name: str) -> Path | None:
    """Folder of a tokenizer in the cache of Hugging Face; nothing is asked of the network."""
    from transformers.utils import cached_file

    for repository in (name, TOKENIZERS[name].removeprefix("huggingface.co/")):
        paths = [
            cached_file(repository, file, local_files_only=True, _raise_exceptions_for_missing_entries=False)
            for file in TOKENIZER_FILES
        ]
        if all(paths):
            return Path(str(paths[0])).parent
    return None


def _cached(released: Released) -> Path:
    path = teachers_dir() / released.file
    return path if path.is_file() else _download(released, path.parent)


def _download(released: Released, folder: Path) -> Path:
    """Fetch a file into a folder with a progress bar; an unfinished one does not stay."""
    import pooch

    hint = f"download {released.file} from {released.page} and put it into {folder}"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise AudiotkError(f"{released.file}: is not there, and HF_HUB_OFFLINE forbids a download; {hint}")
    known = f"sha256:{released.sha256}" if released.sha256 else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(pooch.retrieve(released.url, known, fname=released.file, path=folder, progressbar=True))
    except (OSError, ValueError) as err:  # requests' errors are OSErrors, pooch's wrong checksum a ValueError
        raise AudiotkError(f"{released.file}: is not there, and its download failed ({err}); {hint}") from err
