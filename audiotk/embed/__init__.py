"""Where does a false positive sit among others? Embeddings, clusters, how repeatable they are, and a picture of them.

>>> vectors = embed_student(checkpoint, waves)                          # (n, 128), or embed_logmel, embed_teacher
>>> ghosts["cluster"] = cluster(vectors, rng)                           # HDBSCAN on the vectors; -1 = unassigned
>>> ghosts[["x", "y"]] = map_2d(vectors, rng)                           # UMAP, for the eye only
>>> heard = members(ghosts, vectors, ghosts["cluster"], rng, positives=true_vectors)
>>> themes = suggest_themes(ghosts, ghosts["cluster"])                  # theme and reason of each cluster
>>> found = compare(vectors, ghosts["group"], true_vectors, true_groups, rng)
>>> stats.paired_bootstrap({0: found["false positives"].repeatable}, {0: found["unclustered"].repeatable}, rng)

Clusters are found among embeddings, never in the picture: UMAP tears and packs, so that what looks like a cluster there
need not be one. Torch and umap are loaded only by the functions that need them.
"""

from __future__ import annotations

from audiotk.embed.clusters import UNASSIGNED, Clusters, cluster, find_clusters
from audiotk.embed.maps import map_2d
from audiotk.embed.repeat import Stability, agreement, compare, shuffled, stability, unclustered
from audiotk.embed.themes import members, suggest_themes
from audiotk.embed.vectors import embed_logmel, embed_student, embed_teacher

__all__ = [
    "UNASSIGNED", "Clusters", "Stability", "agreement", "cluster", "compare", "embed_logmel", "embed_student",
    "embed_teacher", "find_clusters", "map_2d", "members", "shuffled", "stability", "suggest_themes", "unclustered",
]  # fmt: skip
