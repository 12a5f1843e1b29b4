"""TEST ONLY: tell SkyPilot that there is a network, where the tests have none.

Before SkyPilot believes that a machine is gone it asks https://8.8.8.8 and https://1.1.1.1 whether it is
online; without internet it goes on calling the machine UP. With this folder on PYTHONPATH it asks one address
on this machine instead.
"""

import os

from after_import import set_constant

if "SKY_TEST_NET_PROBE" in os.environ:
    set_constant("sky.backends.backend_utils", "_TEST_IP_LIST", [os.environ["SKY_TEST_NET_PROBE"]])
