"""Write `tests/porting/files/scaffold/operators.npz`: small graphs of ONNX, and what ONNX Runtime makes of them.

Needs onnx==1.23.2 and onnxruntime==1.32.0 (`pip install onnx onnxruntime`).
Run: `python tests/porting/make/onnx_operators.py` from the root of the repository.
An entry `NAME` is the file; `NAME:0` and so on are its inputs, `NAME:out0` and so on its outputs.
"""

import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, parser

OUT = Path(__file__).parents[1] / "files" / "scaffold" / "operators.npz"
IMAGE, SEQUENCE, ROWS = {"x": (2, 4, 7, 6)}, {"x": (2, 5, 4)}, {"x": (3, 4)}
CONV = {"w": (6, 4, 3, 3), "b": (6,)}
# The nodes, the inputs, the weights, and the version of the operators if it is not 17.
CASES = {
    "conv": ("y = Conv<strides=[2,1], pads=[1,0,1,0], dilations=[1,2]>(x, w, b)", IMAGE, CONV),
    "conv_sides": ("y = Conv<pads=[0,1,2,1]>(x, w)", IMAGE, CONV),
    "conv_same": ('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w, b)', IMAGE, CONV),
    "conv_same_lower": ('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w, b)', IMAGE, CONV),
    "conv_same_even": ('y = Conv<auto_pad="SAME_LOWER">(x, w)', IMAGE, {"w": (3, 4, 2, 2)}),
    "conv_valid": ('y = Conv<auto_pad="VALID", group=2>(x, w)', IMAGE, {"w": (6, 2, 3, 3)}),
    "conv_line": ("y = Conv<strides=[2], pads=[1,1]>(x, w, b)", {"x": (2, 4, 9)}, {"w": (6, 4, 3), "b": (6,)}),
    "conv_space": ("y = Conv(x, w)", {"x": (1, 2, 4, 4, 4)}, {"w": (3, 2, 2, 2, 2)}),
    "conv_twice": ("a = Conv<pads=[1,1,1,1]>(x, w, b) y = Conv<pads=[1,1,1,1]>(a, w, b)",
                   IMAGE, {"w": (4, 4, 3, 3), "b": (4,)}),
    "conv_by_another": ("a = Conv<pads=[1,1,1,1]>(x, w, b) y = Conv<pads=[2,2,2,2]>(a, w)",
                        IMAGE, {"w": (4, 4, 3, 3), "b": (4,)}),
    "conv_computed": ("v = Mul(w, s) y = Conv(x, v)", IMAGE, {"w": (3, 4, 2, 2), "s": (3, 1, 1, 1)}),
    "back": ("y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,0], group=2>(x, w, b)",
             IMAGE, {"w": (4, 3, 3, 3), "b": (6,)}),
    "back_sides": ("y = ConvTranspose<strides=[2,2], pads=[0,1,2,1]>(x, w)", IMAGE, {"w": (4, 3, 3, 3)}),
    "back_same": ('y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)', IMAGE, {"w": (4, 3, 3, 3)}),
    "back_same_small": ('y = ConvTranspose<strides=[3,3], auto_pad="SAME_LOWER">(x, w)', IMAGE, {"w": (4, 3, 2, 2)}),
    "gemm": ("y = Gemm<transB=1>(x, w, b)", ROWS, {"w": (5, 4), "b": (5,)}),
    "gemm_scaled": ("y = Gemm<alpha=0.5, beta=2.0>(x, w, b)", ROWS, {"w": (4, 5), "b": (5,)}),
    "gemm_turned": ("y = Gemm<transA=1>(x, w)", ROWS, {"w": (3, 5)}),
    "matmul": ("a = MatMul(x, w) y = Add(b, a)", SEQUENCE, {"w": (4, 6), "b": (6,)}),
    "matmul_used_twice": ("a = MatMul(x, w) c = Add(a, b) y = Mul(a, c)", SEQUENCE, {"w": (4, 6), "b": (6,)}),
    "matmul_turned": ("v = Transpose<perm=[1,0]>(w) y = MatMul(x, v)", SEQUENCE, {"w": (6, 4)}),
    "matmul_from_left": ("y = MatMul(w, x)", SEQUENCE, {"w": (3, 5)}),
    "matmul_stacked": ("y = MatMul(x, w)", {"x": (2, 5, 4)}, {"w": (2, 4, 3)}),
    "attention": ("t = Transpose<perm=[0,2,1]>(x) s = MatMul(x, t) p = Softmax<axis=-1>(s) y = MatMul(p, x)",
                  SEQUENCE, {}),
    "tied": ("e = Gather(w, x) v = Transpose<perm=[1,0]>(w) y = MatMul(e, v)", {"x": "rows"}, {"w": (6, 4)}),
    "batch_norm": ("y = BatchNormalization<epsilon=0.01, momentum=0.8>(x, s, b, m, v)",
                   IMAGE, {"s": (4,), "b": (4,), "m": (4,), "v": (4,)}),
    "batch_norm_rows": ("y = BatchNormalization(x, s, b, m, v)",
                        ROWS, {"s": (4,), "b": (4,), "m": (4,), "v": (4,)}),
    "batch_norm_of_equals": ("y = BatchNormalization(x, v, b, b, v)", IMAGE, {"b": (4,), "v": (4,)}),
    "instance_norm": ("y = InstanceNormalization<epsilon=0.001>(x, s, b)", IMAGE, {"s": (4,), "b": (4,)}),
    "layer_norm": ("y = LayerNormalization(x, s, b)", SEQUENCE, {"s": (4,), "b": (4,)}),
    "layer_norm_axes": ("y = LayerNormalization<axis=1, epsilon=0.1>(x, s)", SEQUENCE, {"s": (5, 4)}),
    "group_norm": ("y = GroupNormalization<num_groups=2>(x, s, b)", IMAGE, {"s": (4,), "b": (4,)}, 21),
    "prelu": ("y = PRelu(x, w)", IMAGE, {"w": (4, 1, 1)}),
    "prelu_each": ("y = PRelu(x, w)", SEQUENCE, {"w": (5, 4)}),
    "embedding": ("y = Gather(w, x)", {"x": "rows"}, {"w": (6, 4)}),
    "embedding_columns": ("y = Gather<axis=1>(w, x)", {"x": "rows"}, {"w": (3, 6)}),
    "lstm": ("y, h, c = LSTM<hidden_size=3>(x, w, r, b)",
             {"x": (5, 2, 4)}, {"w": (1, 12, 4), "r": (1, 12, 3), "b": (1, 24)}),
    "lstm_both": ('y = LSTM<hidden_size=3, direction="bidirectional">(x, w, r, b)',
                  {"x": (5, 2, 4)}, {"w": (2, 12, 4), "r": (2, 12, 3), "b": (2, 24)}),
    "lstm_states": ("y, h = LSTM<hidden_size=3>(x, w, r, , , h0, c0)",
                    {"x": (5, 2, 4), "h0": (1, 2, 3), "c0": (1, 2, 3)}, {"w": (1, 12, 4), "r": (1, 12, 3)}),
    "gru": ("y, h = GRU<hidden_size=3, linear_before_reset=1>(x, w, r, b)",
            {"x": (5, 2, 4)}, {"w": (1, 9, 4), "r": (1, 9, 3), "b": (1, 18)}),
    "gru_reset_first": ("y, h = GRU<hidden_size=3>(x, w, r, b)",
                        {"x": (5, 2, 4)}, {"w": (1, 9, 4), "r": (1, 9, 3), "b": (1, 18)}),
    "gru_reset_first_back": ('y = GRU<hidden_size=3, direction="reverse">(x, w, r)',
                             {"x": (5, 2, 4)}, {"w": (1, 9, 4), "r": (1, 9, 3)}),
    "gru_back": ('y, h = GRU<hidden_size=3, linear_before_reset=1, direction="reverse">(x, w, r)',
                 {"x": (5, 2, 4)}, {"w": (1, 9, 4), "r": (1, 9, 3)}),
    "rnn": ('y, h = RNN<hidden_size=3, activations=["Relu"]>(x, w, r, b)',
            {"x": (5, 2, 4)}, {"w": (1, 3, 4), "r": (1, 3, 3), "b": (1, 6)}),
    "max_pool": ("y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,0], ceil_mode=1>(x)", IMAGE, {}),
    "max_pool_sides": ("y = MaxPool<kernel_shape=[2,2], pads=[0,0,1,1], dilations=[2,1]>(x)", IMAGE, {}),
    "max_pool_same": ('y = MaxPool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(x)', IMAGE, {}),
    "mean_pool": ("y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)", IMAGE, {}),
    "mean_pool_counted": ("y = AveragePool<kernel_shape=[2,2], pads=[0,0,1,1], count_include_pad=1>(x)", IMAGE, {}),
    "mean_pool_sides": ("y = AveragePool<kernel_shape=[2,2], pads=[0,0,1,1]>(x)", IMAGE, {}),
    "mean_pool_same": ('y = AveragePool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_LOWER">(x)', IMAGE, {}),
    "mean_pool_ceil": ("y = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", IMAGE, {}, 19),
    "global_pools": ("y = GlobalAveragePool(x) z = GlobalMaxPool(x)", IMAGE, {}),
    "resize_nearest": ('y = Resize<coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , k)',
                       IMAGE, {"k": [1.0, 1.0, 2.0, 1.5]}),
    "resize_linear": ('y = Resize<mode="linear">(x, , , k)', IMAGE, {"k": [2, 4, 9, 5]}),
    "resize_cubic": ('y = Resize<mode="cubic", coordinate_transformation_mode="align_corners">(x, , , k)',
                     IMAGE, {"k": [2, 4, 9, 5]}),
    "resize_line": ('y = Resize<mode="linear">(x, , k)', {"x": (2, 3, 5)}, {"k": [1.0, 1.0, 2.0]}),
    "upsample": ('y = Upsample<mode="nearest">(x, k)', IMAGE, {"k": [1.0, 1.0, 2.0, 3.0]}, 9),
    "grid": ('y = GridSample<align_corners=1, padding_mode="border">(x, g)',
             {**IMAGE, "g": (2, 3, 3, 2)}, {}, 16),
    "one_by_one": (
        "a = Relu(x) b = Sigmoid(x) c = Tanh(x) d = LeakyRelu<alpha=0.2>(x) e = Elu<alpha=0.7>(x) f = Selu(x) "
        "g = Celu<alpha=0.5>(x) h = HardSigmoid(x) i = HardSwish(x) j = Softplus(x) k = Softsign(x) l = Erf(x) "
        "m = Exp(x) n = Abs(x) o = Neg(x) p = Sign(x) q = Floor(x) r = Ceil(x) s = Round(x) t = Sin(x) u = Atan(x) "
        "v = ThresholdedRelu<alpha=0.3>(x) w = Shrink<lambd=0.4, bias=0.4>(x) z = Mish(x) "
        "y = Concat<axis=-1>(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, z)", ROWS, {}, 18),
    "roots": ("a = Abs(x) b = Sqrt(a) c = Log(a) d = Reciprocal(a) e = Pow(a, two) y = Sum(b, c, d, e)",
              ROWS, {"two": [2.0]}),
    "gelu": ('a = Gelu(x) b = Gelu<approximate="tanh">(x) y = Add(a, b)', ROWS, {}, 20),
    "clip": ("a = Clip(x, low, high) b = Clip(x, low) c = Clip(x, zero, six) y = Mean(a, b, c)",
             ROWS, {"low": -0.5, "high": 0.5, "zero": 0.0, "six": 6.0}),
    "clip_old": ("y = Clip<min=-0.5, max=0.25>(x)", ROWS, {}, 6),
    "arithmetic": ("a = Add(x, s) b = Sub(two, a) c = Mul(b, t) d = Div(c, two) e = Pow(d, two) y = Neg(e)",
                   SEQUENCE, {"s": (5, 4), "t": (4,), "two": 2.0}),
    "whole": ("a = Div(x, two) b = Mod(x, three) c = Mul(a, b) y = Cast<to=1>(c)",
              {"x": "rows"}, {"two": 2, "three": 3}),
    "extremes": ("a = Max(x, low) b = Min(a, z) y = Max(b, x, z)", {"x": (3, 4), "z": (3, 4)}, {"low": 0.1}),
    "logic": ("a = Greater(x, zero) b = Less(x, one) c = And(a, b) d = Not(c) e = Or(d, a) f = Equal(x, one) "
              "g = Xor(e, f) h = GreaterOrEqual(x, one) i = LessOrEqual(x, zero) j = Or(h, i) k = And(g, j) "
              "l = Where(k, x, zero) y = Where(c, l, x)", ROWS, {"zero": 0.0, "one": 1.0}),
    "dropout": ("y = Dropout(x)", ROWS, {}, 11),
    "softmax": ("a = Softmax<axis=1>(x) y = LogSoftmax<axis=1>(a)", IMAGE, {}),
    "softmax_old": ("a = Softmax(x) y = LogSoftmax<axis=2>(a)", IMAGE, {}, 11),
    "reduce": ("a = ReduceMean<axes=[1]>(x) b = ReduceMax<axes=[-1]>(x) c = ReduceMin<axes=[1,2]>(x) "
               "d = ReduceL2<axes=[2]>(x) e = ReduceL1<axes=[2]>(x) f = ReduceSumSquare<axes=[1]>(x) "
               "g = ReduceLogSumExp<axes=[1]>(x) h = ReduceProd<axes=[1]>(x) i = ReduceMean(x) "
               "y = Sum(a, b, c, d, e, f, g, h, i)", SEQUENCE, {}),
    "reduce_sum": ("a = ReduceSum(x, k) b = ReduceSum<keepdims=0>(x) "
                   "c = ReduceSum<noop_with_empty_axes=1>(x) d = Add(a, b) y = Mul(c, d)", SEQUENCE, {"k": [1, 2]}),
    "arg": ("a = ArgMax<axis=1>(x) b = ArgMin<axis=-1, keepdims=0>(x) y = Cast<to=1>(a) z = Cast<to=1>(b)", ROWS, {}),
    "top": ("a, b = TopK<axis=1>(x, two) c, d = TopK<largest=0>(x, two) y = Add(a, c) z = Add(b, d) w = Cast<to=1>(z)",
            ROWS, {"two": [2]}),
    "cumulated": ("a = CumSum(x, one) y = CumSum<reverse=1>(a, one)", SEQUENCE, {"one": 1}),
    "einsum": ('y = Einsum<equation="bij, bkj -> bik">(x, x)', SEQUENCE, {}),
    "local_response": ("y = LRN<size=3, alpha=0.1>(x)", IMAGE, {}),
    "shape_chain": ("s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, k) c = Concat<axis=0>(u, m) y = Reshape(x, c)",
                    {"x": (2, 6, 4)}, {"zero": 0, "k": [0], "m": [2, -1]}),
    "shape_arithmetic": ("s = Shape(x) a = Slice(s, i, j) b = Gather(a, zero) h = Div(b, two) l = Mul(h, two) "
                         "u = Unsqueeze(l, k) o = Concat<axis=0>(m, u) y = Reshape(x, o)",
                         {"x": (2, 6, 4)}, {"zero": 0, "two": 2, "k": [0], "m": [2, -1], "i": [1], "j": [2]}),
    "shape_product": ("s = Shape(x) a = Slice(s, i, j) p = ReduceProd(a) c = Concat<axis=0>(m, p) y = Reshape(x, c)",
                      {"x": (2, 6, 4)}, {"i": [1], "j": [3], "m": [-1]}),
    "shape_root": ("s = Shape(x) n = Gather(s, last) f = Cast<to=1>(n) r = Sqrt(f) y = Div(x, r)",
                   SEQUENCE, {"last": -1}),
    "shape_filled": ("s = Shape(x) o = ConstantOfShape(s) y = Add(x, o)", SEQUENCE, {}),
    "shape_expanded": ("s = Shape(x) e = Expand(w, s) y = Add(x, e)", SEQUENCE, {"w": (1, 1, 4)}),
    "shape_ranged": ("s = Shape(x) n = Gather(s, one) r = Range(zero, n, one) f = Cast<to=1>(r) "
                     "u = Unsqueeze(f, k) y = Mul(x, u)", SEQUENCE, {"zero": 0, "one": 1, "k": [1]}),
    "shape_of_shape": ("s = Shape(x) e = Equal(s, m) o = ConstantOfShape<value = int64[1] {1}>(t) w = Where(e, o, s) "
                       "y = Expand(x, w)", SEQUENCE, {"m": [-1, -1, -1], "t": [3]}),
    "pads_chain": ("o = ConstantOfShape<value = int64[1] {0}>(t) c = Concat<axis=0>(p, o) r = Reshape(c, q) "
                   "v = Slice(r, i, j, k, l) w = Transpose<perm=[1,0]>(v) z = Reshape(w, n) d = Cast<to=7>(z) "
                   'y = Pad<mode="constant">(x, d, f)', IMAGE,
                   {"t": [4], "p": [1, 2, 0, 3], "q": [-1, 2], "i": [-1], "j": [-9223372036854775807], "k": [0],
                    "l": [-1], "n": [-1], "f": 0.5}),
    "reshape": ("a = Reshape(x, s) b = Flatten<axis=2>(a) c = Unsqueeze(b, k) y = Squeeze(c, k)",
                IMAGE, {"s": [0, 2, -1, 3], "k": [0]}),
    "flatten": ("a = Flatten(x) b = Flatten<axis=0>(x) c = Flatten<axis=-1>(x) d = MatMul(c, b2) y = Add(a, z)",
                ROWS, {"z": [1.0], "b2": (4, 2)}),
    "squeeze_all": ("y = Squeeze(x)", {"x": (1, 3, 1, 2)}, {}),
    "unsqueeze_old": ("a = Unsqueeze<axes=[-1, 0]>(x) y = Squeeze<axes=[0]>(a)", ROWS, {}, 11),
    "transpose": ("a = Transpose(x) y = Transpose<perm=[2,0,1]>(a)", SEQUENCE, {}),
    "slice": ("a = Slice(x, i, j, k, l) y = Slice(a, m, n, o)", {"x": (2, 8, 9)},
              {"i": [1, -4], "j": [9223372036854775807, -1], "k": [1, -1], "l": [2, 1], "m": [0], "n": [2], "o": [1]}),
    "slice_flipped": ("y = Slice(x, i, j, k, l)", SEQUENCE,
                      {"i": [-1], "j": [-9223372036854775807], "k": [1], "l": [-1]}),
    "slice_old": ("y = Slice<starts=[1], ends=[3], axes=[1]>(x)", SEQUENCE, {}, 9),
    "gather": ("a = Gather<axis=1>(x, i) b = Gather<axis=-1>(x, j) c = Gather<axis=1>(b, k) y = Add(a, c)",
               SEQUENCE, {"i": [2, 0], "j": [3, 1, 2, 0], "k": [1, 3]}),
    "gather_elements": ("y = GatherElements<axis=1>(x, i)", {"x": (3, 4), "i": "rows"}, {}),
    "places": ("a = GatherND(x, i) y = ScatterND(x, i, a) z = ScatterND<reduction=\"add\">(x, i, a) "
               "b = ScatterElements<axis=1>(x, j, x)", ROWS, {"i": [[0, 1], [2, 3]], "j": [[3, 2, 1, 0]] * 3}, 16),
    "split": ("a, b = Split<axis=1>(x, s) c, d = Split<axis=2>(b, t) y = Mul(c, d)",
              SEQUENCE, {"s": [2, 3], "t": [2, 2]}),
    "split_even": ("a, b = Split<axis=-1, num_outputs=2>(x) y = Mul(a, b)", SEQUENCE, {}, 18),
    "pad": ('a = Pad<mode="reflect">(x, p) b = Pad<mode="edge">(a, q) y = Pad(b, r, f)', IMAGE,
            {"p": [0, 0, 1, 2, 0, 0, 2, 1], "q": [0, 0, 0, 1, 0, 0, 2, 0], "r": [0, 1, 0, 0, 0, 0, 0, 1], "f": 1.5}),
    "pad_old": ("y = Pad<pads=[0,0,1,1,0,0,1,1], value=0.5>(x)", IMAGE, {}, 9),
    "tile": ("y = Tile(x, t)", ROWS, {"t": [1, 2]}),
    "depth": ('a = DepthToSpace<blocksize=2>(x) b = SpaceToDepth<blocksize=2>(a) '
              'y = DepthToSpace<blocksize=2, mode="CRD">(b)', {"x": (1, 8, 2, 3)}, {}),
    "triangle": ("a = Trilu(x) b = Trilu<upper=0>(x, one) y = Mul(a, b)", {"x": (2, 4, 4)}, {"one": 1}),
    "one_hot": ("y = OneHot(x, d, v)", {"x": "rows"}, {"d": 6, "v": [0.0, 1.0]}),
    "constant": ("c = Constant<value_floats=[0.5, 1.5, 2.5, 3.5]>() k = Constant<value_int=1>() "
                 "a = CumSum(x, k) y = Add(a, c)", ROWS, {}),
    "identity": ("a = Identity(x) b = Identity(w) y = Mul(a, b)", ROWS, {"w": (4,)}),
    "dequantized": ("v = DequantizeLinear(q, s, z) y = MatMul(x, v)", ROWS,
                    {"q": "bytes", "s": 0.02, "z": "zero"}),
    "parameters": ("a = Mul(x, s) b = Add(a, t) c = Mul(b, u) y = Add(c, v)", SEQUENCE,
                   {"s": (4,), "t": (4,), "u": (4,), "v": (5, 4)}),
    "two_in_two_out": ("y = MatMul(x, w) z = MatMul(u, w2)", {"x": (3, 4), "u": (3, 4)}, {"w": (4, 5), "w2": (4, 5)}),
}  # fmt: skip


# Names that weights have in the file.
NAMES = {"parameters": {"s": "block.norm.weight", "t": "block.norm.bias", "u": "gamma", "v": "shift"}}


def built(name, nodes, inputs, weights, opset=17):
    """The model of a case, and the arrays of its inputs."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    given = {key: random.integers(0, 3, (3, 4)) if shape == "rows" else random.standard_normal(shape).astype("f4")
             for key, shape in inputs.items()}  # fmt: skip
    stored = {
        NAMES.get(name, {}).get(key, key): array(random, shape, is_variance=key == "v" and name.startswith("batch"))
        for key, shape in weights.items()
    }
    told = [f"{'int64' if one.dtype == np.int64 else 'float'}{list(one.shape)} {key}" for key, one in given.items()]
    graph = parser.parse_graph(f"g ({', '.join(told)}) => (float y) {{ {nodes} }}")
    taken = {one for node in graph.node for one in node.input}
    ends = [one for node in graph.node for one in node.output if one not in taken]
    del graph.output[:]
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(one) for one in ends)
    for node in graph.node:
        node.input[:] = [NAMES.get(name, {}).get(one, one) for one in node.input]
    graph.initializer.extend(numpy_helper.from_array(one, key) for key, one in stored.items())
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model), list(given.values())


def array(random, shape, *, is_variance):
    """A weight of this shape, or the numbers that stand there."""
    if shape == "bytes":
        return random.integers(-100, 100, (4, 5)).astype("i1")
    if shape == "zero":
        return np.array(3, "i1")
    if isinstance(shape, tuple):
        made = random.standard_normal(shape) * 0.5
        return (np.abs(made) + 0.5 if is_variance else made).astype("f4")
    made = np.array(shape)
    return made.astype("f4" if made.dtype.kind == "f" else "i8")


def main():
    """Write the file."""
    arrays = {}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Further optimizations compute products with dequantized weights in integers.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    for name, case in CASES.items():
        model, inputs = built(name, *case)
        data = model.SerializeToString()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        feeds = {one.name: value for one, value in zip(session.get_inputs(), inputs, strict=True)}
        arrays[name] = np.frombuffer(data, np.uint8)
        arrays |= {f"{name}:{index}": value for index, value in enumerate(inputs)}
        arrays |= {f"{name}:out{index}": value for index, value in enumerate(session.run(None, feeds))}
    OUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(OUT, **arrays)


if __name__ == "__main__":
    main()
