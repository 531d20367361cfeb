"""Write the Caffe files of `tests/porting/files/caffe`.

Caffe itself cannot be installed any more. The files are built from its published `caffe.proto`, and read by OpenCV,
whose outputs on a fixed input lie beside them (`.npz`).
Needs opencv-python-headless==4.12.0.88 and numpy. Run: `python tests/porting/make/with_caffe.py`.
"""

import shutil
import struct
from pathlib import Path

import cv2
import numpy as np

OUT = Path(__file__).parents[1] / "files" / "caffe"
RNG = np.random.default_rng(0)

DEPLOY = """# a network of every layer with weights
name: "net"
input: "data"
input_shape { dim: 1 dim: 3 dim: 9 dim: 9 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { use_global_stats: true eps: 1e-3 } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "act" type: "PReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up"
  convolution_param { num_output: 2 kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "up" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
DEPLOY_V1 = """name: "old"
input: "data" input_dim: 1 input_dim: 3 input_dim: 5 input_dim: 5
layers { name: 'conv' type: CONVOLUTION bottom: 'data' top: 'conv' convolution_param < num_output: 4 kernel_size: 3 > }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "fc" type: INNER_PRODUCT bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
"""


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def real(field, value):
    return varint(field << 3 | 5) + struct.pack("<f", value)


def blob(array):
    array = np.asarray(array, "<f4")
    return block(7, block(1, b"".join(varint(size) for size in array.shape))) + block(5, array.tobytes())


def blob_v1(array):
    array = np.asarray(array, "<f4")
    shape = (1,) * (4 - array.ndim) + array.shape
    return b"".join(number(1 + k, size) for k, size in enumerate(shape)) + block(5, array.tobytes())


def layer(name, kind, bottom, top, blobs=(), parameters=b""):
    texts = block(1, name) + block(2, kind) + block(3, bottom) + block(4, top)
    return block(100, texts + b"".join(block(7, blob(b)) for b in blobs) + parameters)


def layer_v1(name, kind, bottom, top, blobs=(), parameters=b""):
    texts = block(2, bottom) + block(3, top) + block(4, name) + number(5, kind)
    return block(2, texts + b"".join(block(6, blob_v1(b)) for b in blobs) + parameters)


def normal(*shape):
    return RNG.normal(size=shape).astype("f4")


def outputs(stem, shape):
    net = cv2.dnn.readNetFromCaffe(str(OUT / f"{stem}.prototxt"), str(OUT / f"{stem}.caffemodel"))
    x = RNG.normal(size=shape).astype("f4")
    net.setInput(x)
    np.savez_compressed(OUT / f"{stem}.npz", x=x, y=net.forward("fc"))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    convolution = block(106, number(1, 4) + number(2, 0) + number(3, 1) + number(4, 3) + number(6, 2))
    (OUT / "net.prototxt").write_text(DEPLOY)
    (OUT / "net.caffemodel").write_bytes(
        block(1, "net")
        + layer("conv", "Convolution", "data", "conv", [normal(4, 3, 3, 3)], convolution)
        + layer("bn", "BatchNorm", "conv", "conv", [normal(4) * 900, (normal(4) ** 2 + 1) * 900, [999.98236]],
                block(139, number(1, 1) + real(3, 1e-3)))
        + layer("scale", "Scale", "conv", "conv", [normal(4), normal(4)], block(142, number(4, 1)))
        + layer("act", "PReLU", "conv", "conv", [normal(4)])
        + layer("pool", "Pooling", "conv", "pool", (), block(121, number(1, 0) + number(2, 2) + number(3, 2)))
        + layer("up", "Deconvolution", "pool", "up", [normal(4, 2, 2, 2), normal(2)],
                block(106, number(1, 2) + number(4, 2) + number(6, 2)))
        + layer("fc", "InnerProduct", "up", "fc", [normal(5, 2 * 6 * 6), normal(5)], block(117, number(1, 5)))
        + layer("prob", "Softmax", "fc", "prob")
    )  # fmt: skip
    outputs("net", (1, 3, 9, 9))
    (OUT / "old.prototxt").write_text(DEPLOY_V1)
    (OUT / "old.caffemodel").write_bytes(
        block(1, "old")
        + layer_v1("conv", 4, "data", "conv", [normal(4, 3, 3, 3), normal(4)], block(10, number(1, 4) + number(4, 3)))
        + layer_v1("relu", 18, "conv", "conv")
        + layer_v1("fc", 14, "conv", "fc", [normal(5, 36), normal(5)], block(17, number(1, 5)))
    )
    outputs("old", (1, 3, 5, 5))


if __name__ == "__main__":
    main()
