"""Images that stand in a data set more than once: the same bytes, copies of one photograph, one scene twice.

`duplicates` compares bytes. `find_lookalikes` compares what is seen, whether turned, mirrored, moved,
cropped, zoomed or saved anew: corners of each image (keypoints), pairs that share rare ones
(candidates), and for each such pair one affine map that lays the one onto the other (registration).
Needs numpy, which takes a tenth of a second to import: import this package when it is used.
"""

from cloudrun.dataset.lookalikes.duplicates import duplicates
from cloudrun.dataset.lookalikes.search import Lookalikes, TooSlow, find_lookalikes

__all__ = ["Lookalikes", "TooSlow", "duplicates", "find_lookalikes"]
