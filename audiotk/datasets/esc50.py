"""ESC-50 and its subset ESC-10: 2,000 (400) recordings of 5 s, one class each, five folds by source.

K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015, doi:10.1145/2733373.2806390.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from audiotk.datasets.archives import fetch, unpack
from audiotk.datasets.found import folder_of, inside, present, read_csv
from audiotk.files import cache_dir
from audiotk.tables import AudiotkError, Dataset, grouped_split, make_annotations, make_sources, whole_recordings

URL = "https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip"
HINT = (
    f"ESC-50: unpack {URL} (600 MB, CC BY-NC 3.0; its subset ESC-10 is CC BY 3.0), so that the root holds audio/ and "
    "meta/esc50.csv; download=True does that when online."
)
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file")
AT = pd.Timestamp("2015-10-26", tz="UTC")  # time of writing of all annotations: the paper's


def load(
    root: str | Path | None = None,
    *,
    esc10: bool = False,
    val_share: float = 0.2,
    seed: int = 0,
    download: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Dataset:
    """Load ESC-50 in its official layout (``audio/`` and ``meta/esc50.csv``); any folds and files that are there.

    The highest fold present is the test set. Of the others, `val_share` is the validation set, drawn by source file and
    class. ``group`` is the Freesound recording (`src_file`) that a clip was cut from. Source ``esc50`` is closed (every
    class was asked) and weak (somewhere in the recording).

    Parameters
    ----------
    root
        Folder of the data; None with `download` is audiotk's cache folder.
    esc10
        Only the ten classes of ESC-10.
    val_share
        Share of the training folds that becomes the validation set, from 0 (none) to below 1.
    seed
        Of the draw of the validation set.
    download
        Fetch the archive first if `root` does not hold it.
    workers, progress
        As in :func:`audiotk.audio.probe`.

    Raises
    ------
    AudiotkError
        Files are missing (the text says what to put where), only one fold is there, or `val_share` is no such share.
    """
    if not 0 <= val_share < 1:
        raise AudiotkError(f"esc50: val_share: expected 0 <= share < 1 of the training folds, got {val_share!r}")
    if download:
        root = _download(Path(root) if root else cache_dir() / "esc50")
    folder = folder_of(root, "esc50", HINT)
    meta = read_csv(folder / "meta" / "esc50.csv", COLUMNS, HINT)
    if esc10:
        meta = meta[meta["esc10"].str.lower() == "true"]
    try:
        meta = meta.astype({"fold": "int64", "target": "int64"}).reset_index(drop=True)
    except ValueError as err:
        raise AudiotkError(f"{folder / 'meta/esc50.csv'}: fold and target have to be whole numbers: {err}") from err
    wanted = pd.DataFrame(
        {
            "recording": meta["filename"].map(lambda name: Path(name).stem),
            "path": meta["filename"].map(lambda name: inside(folder / "audio", name, "meta/esc50.csv")),
            "group": meta["src_file"],
            "fold": meta["fold"],
            "category": meta["category"],
        }
    )
    recordings, problems = present(wanted, HINT, workers, progress)
    segments = whole_recordings(recordings)
    return Dataset(
        name="esc10" if esc10 else "esc50",
        recordings=recordings,
        segments=segments,
        annotations=make_annotations(segments["segment"], recordings["category"], 1.0, "esc50", AT),
        split=_split(recordings, val_share, np.random.default_rng(seed)),
        classes=meta.drop_duplicates("target").sort_values("target")["category"].tolist(),
        sources=make_sources(esc50="closed weak"),
        problems=problems,
    )


def _split(recordings: pd.DataFrame, val_share: float, rng: np.random.Generator) -> pd.Series:
    """Highest fold: test; the others: train and val."""
    test = recordings["fold"] == recordings["fold"].max()
    if test.all():
        fold = recordings["fold"].iloc[0]
        told = "the highest fold is the test set and the others are for training, so put the other folds there, too"
        raise AudiotkError(f"esc50: expected at least two folds, found only fold {fold} ({told}). {HINT}")
    rest = recordings[~test]
    stratify = rest.set_index("recording")["category"]
    split = grouped_split(rest, {"train": 1.0 - val_share, "val": val_share}, rng, stratify)
    return pd.concat([split, pd.Series("test", index=recordings.loc[test, "recording"])])


def _download(root: Path) -> Path:
    """Fetch and unpack; the archive is made on demand and has no stable checksum, so its members' CRCs are checked."""
    archive = root / URL.rsplit("/", 1)[-1]
    if archive.exists() or not (root / "meta" / "esc50.csv").exists():  # archive: unpacking was stopped
        fetch({URL: None}, root, HINT)
        unpack(archive, root, strip="ESC-50-master/")
        archive.unlink()
    return root
