"""TEST ONLY: change a constant of SkyPilot as it is imported, without touching any installed file."""

import importlib.abc
import importlib.machinery
import sys
import types


class _SetAfterImport(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, name: str, value: object) -> None:
        self.module, self.name, self.value = module, name, value

    def find_spec(
        self, fullname: str, path: object, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)  # type: ignore[arg-type]
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_then_set(module: types.ModuleType) -> None:
            execute(module)
            setattr(module, self.name, self.value)

        spec.loader.exec_module = execute_then_set  # type: ignore[method-assign]
        return spec


def set_constant(module: str, name: str, value: object) -> None:
    """Have `name` of `module`, which is not imported yet, be `value`."""
    sys.meta_path.insert(0, _SetAfterImport(module, name, value))
