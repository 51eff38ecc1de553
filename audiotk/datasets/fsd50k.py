"""FSD50K: 51,197 Freesound recordings of 0.3 to 30 s with one or more of 200 classes of the AudioSet ontology.

E. Fonseca, X. Favory, J. Pons, F. Font, X. Serra, "FSD50K: an Open Dataset of Human-Labeled Sound Events",
IEEE/ACM TASLP 30, 2022, arXiv:2010.00475.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pandas as pd

from audiotk.datasets.archives import fetch, unpack
from audiotk.datasets.found import folder_of, inside, present, read_csv, tell_empty
from audiotk.files import cache_dir
from audiotk.tables import PROBLEM_COLUMNS, AudiotkError, Dataset, make_annotations, make_sources, whole_recordings

URL = "https://zenodo.org/records/4060432/files/"
MD5 = {  # as published with record 4060432; a split archive comes before its .zip
    "FSD50K.ground_truth.zip": "ca27382c195e37d2269c4c866dd73485",
    "FSD50K.metadata.zip": "b9ea0c829a411c1d42adb9da539ed237",
    "FSD50K.dev_audio.z01": "faa7cf4cc076fc34a44a479a5ed862a3",
    "FSD50K.dev_audio.z02": "8f9b66153e68571164fb1315d00bc7bc",
    "FSD50K.dev_audio.z03": "1196ef47d267a993d30fa98af54b7159",
    "FSD50K.dev_audio.z04": "d088ac4e11ba53daf9f7574c11cccac9",
    "FSD50K.dev_audio.z05": "81356521aa159accd3c35de22da28c7f",
    "FSD50K.dev_audio.zip": "c480d119b8f7a7e32fdb58f3ea4d6c5a",
    "FSD50K.eval_audio.z01": "3090670eaeecc013ca1ff84fe4442aeb",
    "FSD50K.eval_audio.zip": "6fa47636c3a3ad5c7dfeba99f2637982",
}
HINT = (
    "FSD50K: unpack the archives of https://zenodo.org/records/4060432 (25 GB, CC BY; single recordings also CC BY-NC) "
    "so that the root holds FSD50K.dev_audio/, FSD50K.eval_audio/, FSD50K.ground_truth/ and FSD50K.metadata/; "
    "download=True does that when online."
)
AT = pd.Timestamp("2020-10-01", tz="UTC")  # time of writing of all annotations: the paper's


def load(
    root: str | Path | None = None,
    *,
    download: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Dataset:
    """Load FSD50K in its official layout.

    The official split is kept, except where an uploader (``group``) crosses it: validation recordings of an uploader
    who is in the training set, too, become training recordings, and development recordings of an uploader who is in the
    evaluation set are left out and listed in ``problems``. Warnings count them. Source ``fsd50k`` is closed and weak;
    the authors say that labels of the training set are correct but may be incomplete.

    Parameters
    ----------
    root
        Folder of the data; None with `download` is audiotk's cache folder.
    download
        Fetch the archives first (25 GB, MD5 checked) if `root` does not hold them.
    workers, progress
        As in :func:`audiotk.audio.probe`.

    Raises
    ------
    AudiotkError
        Files are missing (the text says what to put where) or do not fit together.
    """
    if download:
        root = _download(Path(root) if root else cache_dir() / "fsd50k")
    folder = folder_of(root, "fsd50k", HINT)
    truth = folder / "FSD50K.ground_truth"
    classes = read_csv(truth / "vocabulary.csv", [1], HINT, header=False)[1].tolist()
    parts = [_part(folder, "dev"), _part(folder, "eval").assign(split="test")]
    wanted, left_out = _without_crossing(pd.concat(parts, ignore_index=True))
    recordings, problems = present(wanted, HINT, workers, progress)
    segments = whole_recordings(recordings)
    labels = recordings["labels"].str.split(",").explode()
    unknown = set(labels) - set(classes)
    if unknown:
        raise AudiotkError(f"{truth}: labels {sorted(unknown)[:5]} are not in vocabulary.csv")
    return Dataset(
        name="fsd50k",
        recordings=recordings,
        segments=segments,
        annotations=make_annotations(segments["segment"].loc[labels.index], labels, 1.0, "fsd50k", AT),
        split=tell_empty(recordings.set_index("recording")["split"], "fsd50k", HINT),
        classes=classes,
        sources=make_sources(fsd50k="closed weak"),
        problems=pd.concat([left_out, problems], ignore_index=True),
    )


def _part(folder: Path, part: str) -> pd.DataFrame:
    """Recordings of ``dev`` or ``eval`` with labels, uploader and (dev) split."""
    columns = ["fname", "labels", "split"] if part == "dev" else ["fname", "labels"]
    table = read_csv(folder / "FSD50K.ground_truth" / f"{part}.csv", columns, HINT)
    info = folder / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json"
    try:
        uploaders = {name: str(about["uploader"]) for name, about in json.loads(info.read_text("utf-8")).items()}
        group = [uploaders[name] for name in table["fname"]]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise AudiotkError(f"{info}: the uploader of each recording is needed for the split: {err!r}. {HINT}") from err
    audio = folder / f"FSD50K.{part}_audio"
    path = [inside(audio, f"{name}.wav", f"{part}.csv") for name in table["fname"]]
    return table[columns].rename(columns={"fname": "recording"}).assign(path=path, group=group)


def _without_crossing(recordings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Repair what :func:`load` says; returns the recordings and a problems table of those that are left out."""
    held_out = recordings["group"].isin(recordings.loc[recordings["split"] == "test", "group"])
    out = held_out & (recordings["split"] != "test")
    in_train = recordings["group"].isin(recordings.loc[(recordings["split"] == "train") & ~out, "group"])
    moved = (recordings["split"] == "val") & in_train & ~out
    for rows, told in (
        (moved, "validation recordings went to train"),
        (out, "development recordings of evaluation uploaders are left out"),
    ):
        if count := int(rows.sum()):
            warnings.warn(f"fsd50k: uploaders cross the official split; {count} {told}", stacklevel=3)
    left_out = recordings[out].assign(reason="its uploader is in the evaluation set")[list(PROBLEM_COLUMNS)]
    return recordings.assign(split=recordings["split"].mask(moved, "train"))[~out].reset_index(drop=True), left_out


def _download(root: Path) -> Path:
    """Fetch and unpack what is not there; archives go last, so one that is left means that unpacking was stopped."""
    for name in ("ground_truth", "metadata", "dev_audio", "eval_audio"):
        files = [file for file in MD5 if file.startswith(f"FSD50K.{name}.")]
        if not (root / f"FSD50K.{name}").is_dir() or any((root / file).exists() for file in files):
            paths = fetch({f"{URL}{file}?download=1": f"md5:{MD5[file]}" for file in files}, root, HINT)
            unpack(paths[-1], root)
            for path in paths:
                path.unlink()
    return root
