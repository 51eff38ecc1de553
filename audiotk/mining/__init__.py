"""False positives as a source of labels: mine them, judge whole clusters by ear, promote them to explicit negatives.

>>> found = mining.false_positives(scores, labels, segments, recordings, thresholds)
>>> door = mining.Door(recordings, split)
>>> name = mining.promote("labels.sqlite", found[found["cluster"] == 3], "neg_ambient", door, labeler="ann")
>>> segments, annotations = mining.promoted("labels.sqlite", door)  # source "promoted"
>>> mining.take_back("labels.sqlite", name, labeler="ann")

Mining: :mod:`~audiotk.mining.false_positives`; detections of a deployed model: :mod:`~audiotk.mining.log`; what may be
trained on: :mod:`~audiotk.mining.door`; promotion: :mod:`~audiotk.mining.promotion`.
"""

from audiotk.mining.door import Door as Door
from audiotk.mining.false_positives import FALSE_POSITIVE_COLUMNS as FALSE_POSITIVE_COLUMNS
from audiotk.mining.false_positives import by_level as by_level
from audiotk.mining.false_positives import check_false_positives as check_false_positives
from audiotk.mining.false_positives import concentration as concentration
from audiotk.mining.false_positives import false_positives as false_positives
from audiotk.mining.false_positives import judged_absent as judged_absent
from audiotk.mining.log import read_log as read_log
from audiotk.mining.promotion import PROMOTION_COLUMNS as PROMOTION_COLUMNS
from audiotk.mining.promotion import THEMES as THEMES
from audiotk.mining.promotion import promote as promote
from audiotk.mining.promotion import promoted as promoted
from audiotk.mining.promotion import promotions as promotions
from audiotk.mining.promotion import purity_bound as purity_bound
from audiotk.mining.promotion import take_back as take_back
from audiotk.mining.promotion import with_promoted as with_promoted
