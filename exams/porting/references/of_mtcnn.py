"""Golden outputs of MTCNN's networks by the package's own modules: python of_mtcnn.py PACKAGE CLASS WEIGHTS GOLDEN .

Runs in the environment of the exam, since the package needs nothing but PyTorch for them.
"""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import torch

package, name, weights, golden = sys.argv[1:]
for part in ("facenet", "facenet.utils", "facenet.utils.detect_face"):
    sys.modules[part] = types.ModuleType(part)
sys.modules["facenet.utils.detect_face"].detect_face = sys.modules["facenet.utils.detect_face"].extract_face = None
where = importlib.util.spec_from_file_location("facenet.mtcnn", f"{package}/models/mtcnn.py")
module = importlib.util.module_from_spec(where)
module.__package__ = "facenet"
where.loader.exec_module(module)
network = getattr(module, name)(pretrained=False).eval()
network.load_state_dict(torch.load(weights, weights_only=True))
sizes = {"PNet": 40, "RNet": 24}
inputs = torch.tensor(np.random.default_rng(0).uniform(-1, 1, (3, 3, sizes[name], sizes[name]))).float()
with torch.no_grad():
    boxes, faces = network(inputs)
np.savez(golden, input0=inputs.numpy(), output0=boxes.numpy(), output1=faces.numpy())
