"""Work as `python -m cloudrun.worker FOLDER` does, but give up a head that is silent for 2 seconds."""

import sys

from cloudrun.worker import __main__, node

if __name__ == "__main__":
    node.NODE_SILENCE_S = 2.0
    sys.exit(__main__.main(sys.argv))
