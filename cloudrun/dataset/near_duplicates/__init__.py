"""Images that stand in a data set more than once: the same bytes, copies of one photograph, one scene twice.

`duplicates` compares bytes. `find_near_duplicates` compares what is seen, whether turned, mirrored, moved,
cropped, zoomed or saved anew: corners of each image (keypoints), pairs that share rare ones
(candidates), and for each such pair one affine map that lays the one onto the other (registration).
Needs numpy, which takes a tenth of a second to import: import this package when it is used.
"""

from cloudrun.dataset.near_duplicates.duplicates import duplicates
from cloudrun.dataset.near_duplicates.search import NearDuplicates, TooSlow, find_near_duplicates

__all__ = ["NearDuplicates", "TooSlow", "duplicates", "find_near_duplicates"]
