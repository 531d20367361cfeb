"""Golden outputs of a Caffe network by OpenCV: python of_opencv.py PROTOTXT CAFFEMODEL GOLDEN ."""

from __future__ import annotations

import sys

import cv2
import numpy as np

prototxt, weights, golden = sys.argv[1:]
network = cv2.dnn.readNetFromCaffe(prototxt, weights)
pixels = np.random.default_rng(0).uniform(0, 255, (2, 3, 224, 224)).astype(np.float32)
image = pixels - np.array([104, 117, 123], np.float32)[:, None, None]
outputs = []
for each in image:
    network.setInput(each[None])
    outputs.append(network.forward("fc_nsfw")[0].copy())  # logits: probabilities of noise are all but 0 and 1
np.savez(golden, input0=image, output0=np.stack(outputs))
