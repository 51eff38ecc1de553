"""Turn noisy audio labels into trustworthy ones.

``tables`` is the contract (recordings, segments, annotations, labels, split); ``audio`` decodes sound; ``datasets`` and
``synthesis`` give recordings with annotations; ``labels`` resolves annotations into 1 / 0 / unknown; ``features``,
``models``, ``losses``, ``augment`` and ``train`` make a small model; ``metrics`` and ``stats`` say with intervals how
good it is; ``experiments`` compares arms over seeds; ``figures`` draws; ``runs`` executes notebooks and ``report``
writes what they left. Import the module you need (``from audiotk import tables``); the package loads nothing heavy.
"""

__version__ = "0.1.0"
