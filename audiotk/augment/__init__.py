"""Changes of training sound that keep its labels right.

Of whole batches (:mod:`~audiotk.augment.batches`): roll, gain, noise, mixing, masks on the spectrogram. Of one sound
(:mod:`~audiotk.augment.effects`): filters, reverberation, pitch and time, distortion, codecs. And the whole of P1's
Algorithm 1, which makes each training sequence of several sources (:mod:`~audiotk.augment.sequences`).

Every random choice comes from a generator passed in, or from a seed, an epoch and a place in it.
"""

from audiotk.augment.batches import MIXES as MIXES
from audiotk.augment.batches import add_noise as add_noise
from audiotk.augment.batches import decibels as decibels
from audiotk.augment.batches import kleene_or as kleene_or
from audiotk.augment.batches import mask_spectrogram as mask_spectrogram
from audiotk.augment.batches import mix as mix
from audiotk.augment.batches import roll as roll
from audiotk.augment.quiet import background_only as background_only
from audiotk.augment.quiet import dropouts as dropouts
from audiotk.augment.sequences import Recipe as Recipe
from audiotk.augment.sequences import Sequences as Sequences
from audiotk.augment.sequences import Sources as Sources
