"""On PYTHONPATH of a subprocess: torchvision imports beside a torch build that lacks its compiled operators.

Acts only if torchvision is imported and its own import has failed; a working torchvision is left alone.
"""

import importlib.abc
import importlib.util
import sys


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torchvision" or self in _BUSY:
            return None
        _BUSY.append(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            _BUSY.clear()
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, inner):
        self.inner = inner

    def create_module(self, spec):
        return self.inner.create_module(spec)

    def exec_module(self, module):
        try:
            self.inner.exec_module(module)
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            import torch

            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _KEPT.append(library)
            for name in [name for name in sys.modules if name.startswith("torchvision.")]:
                del sys.modules[name]
            self.inner.exec_module(module)


_BUSY = []
_KEPT = []
sys.meta_path.insert(0, _Finder())
