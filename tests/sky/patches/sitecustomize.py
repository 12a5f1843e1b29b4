"""TEST ONLY: tell SkyPilot that there is a network, where the tests have none.

Before SkyPilot believes that a machine is gone it asks https://8.8.8.8 and https://1.1.1.1 whether it is
online (`sky.backends.backend_utils._TEST_IP_LIST`); without internet it goes on calling the machine UP. With
this folder on PYTHONPATH that list holds one address on this machine instead. Nothing else is changed, and
neither is the virtual environment.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import types

PROBE_URL = os.environ.get("SKY_TEST_NET_PROBE", "")
MODULE = "sky.backends.backend_utils"


class ProbeHere(importlib.abc.MetaPathFinder):
    """Finds the one module as ever, and sets its list once it has been executed."""

    def find_spec(
        self, fullname: str, path: object, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)  # type: ignore[arg-type]
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_then_set(module: types.ModuleType) -> None:
            execute(module)
            module._TEST_IP_LIST = [PROBE_URL]  # type: ignore[attr-defined]

        spec.loader.exec_module = execute_then_set  # type: ignore[method-assign]
        return spec


if PROBE_URL:
    sys.meta_path.insert(0, ProbeHere())
