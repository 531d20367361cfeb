"""Golden outputs of silero's voice detector by ONNX Runtime: python of_onnxruntime.py ONNX GOLDEN ."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime

path, golden = sys.argv[1:]
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
inputs = np.random.default_rng(0).normal(0, 0.3, (4, 576)).astype(np.float32)
feed = {"input": inputs, "state": np.zeros((2, 4, 128), np.float32), "sr": np.array(16000, np.int64)}
np.savez(golden, input0=inputs, output0=session.run(["output"], feed)[0])
