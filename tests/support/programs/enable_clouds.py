"""Enable clouds in SkyPilot's own record of the home folder: `... CLOUD...`."""

import sys

from sky import check, global_user_state
from sky.clouds.cloud import CloudCapability

if __name__ == "__main__":
    global_user_state.set_allowed_clouds(check._get_workspace_allowed_clouds("default"), "default")
    global_user_state.set_enabled_clouds(sys.argv[1:], CloudCapability.COMPUTE, "default")
