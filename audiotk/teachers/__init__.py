"""Teachers: models that say what is in a sound, all asked in the same way.

>>> teacher = load("laion-clap", weights="630k-audioset-best.pt")
>>> teacher.scores(waves, Prompts.read(P1))    # waves (n, samples) -> scores (n, 11), a softmax (P1, section 3.4)

====================  ==================================================================  ==========================
name                  what                                                                numbers
====================  ==================================================================  ==========================
``laion-clap``        LAION-CLAP checkpoint in transformers' ClapModel                    embeddings, text prompts
``laion-clap-package``  the same by the package laion-clap itself                         embeddings, text prompts
``msclap``            Microsoft CLAP 2023, P1's teacher                                   embeddings, text prompts
``msclap-package``    the same by the package msclap itself                               embeddings, text prompts
``transformers``      a local folder with a CLAP model                                    embeddings, text prompts
``yamnet``            YAMNet as a TFLite file                                             scores of its 521 classes
``onnx``              any tagger as an ONNX file with a class map                         scores of its classes
``audiotk``           a checkpoint of audiotk                                             scores of its classes
``examples``          a class is the mean of a few segments; needs no download            embeddings, examples
====================  ==================================================================  ==========================

Yours is a class in a file, ``load("my_module:Mine")``:

.. code-block:: python

    import hashlib

    import numpy as np
    from audiotk.teachers.base import Teacher, unit

    class Mine(Teacher):
        name, sr, window_s, dim = "mine", 16000, 1.0, 128

        def __init__(self, weights="mine.npz"):
            with np.load(weights) as file:
                self.filters = file["filters"]                   # (samples, 128)
                self.words = dict(zip(file["words"], file["vectors"]))
            self.checksum = hashlib.sha256(open(weights, "rb").read()).hexdigest()

        def embed_audio(self, waves):                            # (n, samples) -> (n, 128), unit norm
            return unit(np.abs(waves @ self.filters))

        def embed_text(self, texts):                             # -> (n_texts, 128), unit norm
            return unit(np.stack([self.words[text] for text in texts]))
"""

from __future__ import annotations

import inspect
import os
from importlib import import_module
from typing import Any

from audiotk.errors import AudiotkError
from audiotk.teachers.base import Teacher
from audiotk.teachers.prompts import P1, Prompts

__all__ = ["P1", "TEACHERS", "Prompts", "Teacher", "load"]

TEACHERS = {
    "laion-clap": "audiotk.teachers.laion:LaionClap",
    "laion-clap-package": "audiotk.teachers.packages:LaionClapPackage",
    "msclap": "audiotk.teachers.msclap:MsClap",
    "msclap-package": "audiotk.teachers.packages:MsClapPackage",
    "transformers": "audiotk.teachers.local:TransformersClap",
    "yamnet": "audiotk.teachers.yamnet:Yamnet",
    "onnx": "audiotk.teachers.onnx:OnnxTagger",
    "audiotk": "audiotk.teachers.checkpoint:CheckpointTeacher",
    "examples": "audiotk.teachers.examples:Examples",
}


def load(name: str, **options: Any) -> Teacher:
    """Load a teacher by its name, or one of your own as ``module:Class``.

    Parameters
    ----------
    name
        One of `TEACHERS`, or ``module:Class`` of a subclass of `Teacher` that can be imported.
    **options
        Those of the teacher, see its class; mostly weights (path of a file), device and dtype.

    Raises
    ------
    AudiotkError
        An unknown name or option, a class that is no Teacher, weights that are not there or do not fit.
    """
    place = TEACHERS.get(name, name)
    module, colon, class_name = place.partition(":")
    if not (module and colon and class_name):
        raise AudiotkError(f"teacher: expected one of {', '.join(TEACHERS)} or module:Class, got {name!r}")
    try:
        found = getattr(import_module(module), class_name)
    except (ImportError, AttributeError) as err:
        raise AudiotkError(f"teacher {name!r}: cannot be loaded: {err}") from err
    if not (isinstance(found, type) and issubclass(found, Teacher)):
        raise AudiotkError(f"teacher {name!r}: expected a subclass of audiotk.teachers.Teacher, got {found!r}")
    known = list(inspect.signature(found).parameters)
    if unknown := sorted(set(options) - set(known)):
        raise AudiotkError(f"teacher {name!r}: unknown option {', '.join(unknown)}; known: {', '.join(known)}")
    try:
        inspect.signature(found).bind(**options)
    except TypeError as err:
        raise AudiotkError(f"teacher {name!r}: {err}; options: {', '.join(known)}") from err
    teacher = found(**options)
    paths = {key: os.path.abspath(value) for key, value in options.items() if _is_path(value)}
    teacher.recipe = (name, options | paths)  # by which a worker, in whatever folder it runs, loads the same
    return teacher


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and os.path.exists(value)
