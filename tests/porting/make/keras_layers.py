"""Single layers with random weights, run by Keras itself: settings, weights, inputs and outputs of each.

Run in an environment with Keras 3.15.1 and JAX 0.10.2, and in one with tf_keras 2.21 and TensorFlow:
    KERAS_BACKEND=jax python keras_layers.py keras ../files/interpreting/keras3
    python keras_layers.py tf_keras ../files/interpreting/keras2
"""

import importlib
import json
import sys

import numpy as np

SEQUENCE, IMAGE, VOLUME = (5, 4), (5, 6, 4), (3, 4, 3, 2)
ACTIVATIONS = (
    "relu relu6 leaky_relu elu selu celu gelu silu swish mish tanh sigmoid log_sigmoid hard_sigmoid hard_silu "
    "hard_tanh tanh_shrink soft_shrink hard_shrink softplus softsign softmax log_softmax exponential squareplus linear"
).split()
OLD_ACTIVATIONS = (
    "relu elu selu gelu swish tanh sigmoid hard_sigmoid softplus softsign softmax exponential mish linear"
).split()


def cases(layers, is_3):
    """By name: a function that makes the layer, and the shapes of its inputs without the batch."""
    found = {}

    def case(name, make, *shapes):
        found[name] = (make, shapes)

    case("dense", lambda: layers.Dense(3, activation="tanh"), SEQUENCE)
    case("dense_no_bias", lambda: layers.Dense(3, use_bias=False), (4,))
    case("dense_layer", lambda: layers.Dense(3, activation=layers.LeakyReLU(0.1)), (4,))
    case("einsum", lambda: layers.EinsumDense("abc,cd->abd", (5, 3), bias_axes="d", activation="relu"), SEQUENCE)
    for axes, shape in ((1, SEQUENCE), (2, IMAGE), (3, VOLUME)):
        conv, transposed = getattr(layers, f"Conv{axes}D"), getattr(layers, f"Conv{axes}DTranspose")
        case(f"conv{axes}", lambda conv=conv: conv(3, 3, activation="relu"), shape)
        case(f"conv{axes}_same", lambda conv=conv: conv(3, 3, strides=2, padding="same", use_bias=False), shape)
        for padding in ("valid", "same"):
            for kernel, stride in ((3, 2), (4, 2), (2, 3)):
                if axes == 1 or (kernel, stride) == (3, 2):
                    name = f"transposed{axes}_{padding}_{kernel}_{stride}"
                    case(name, lambda t=transposed, k=kernel, s=stride, p=padding: t(3, k, strides=s, padding=p), shape)
    for padding in ("valid", "same"):
        case(
            f"transposed_more_{padding}",
            lambda p=padding: layers.Conv2DTranspose(3, 3, strides=(2, 3), padding=p, output_padding=(1, 2)),
            IMAGE,
        )
    case("conv_causal", lambda: layers.Conv1D(3, 3, dilation_rate=2, padding="causal"), SEQUENCE)
    case("conv_dilated", lambda: layers.Conv2D(3, (3, 2), dilation_rate=(1, 2), padding="same"), IMAGE)
    case("conv_grouped", lambda: layers.Conv2D(6, 3, groups=2), IMAGE)
    case("depthwise", lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same"), IMAGE)
    case("depthwise1", lambda: layers.DepthwiseConv1D(3, depth_multiplier=2), SEQUENCE)
    case(
        "separable", lambda: layers.SeparableConv2D(3, 3, depth_multiplier=2, padding="same", activation="relu"), IMAGE
    )
    case("separable1", lambda: layers.SeparableConv1D(3, 2, strides=2), SEQUENCE)
    for scale in (True, False):
        for center in (True, False):
            case(
                f"batch_norm_{scale}_{center}",
                lambda s=scale, c=center: layers.BatchNormalization(scale=s, center=c, epsilon=0.1),
                IMAGE,
            )
    case("batch_norm_axis", lambda: layers.BatchNormalization(axis=1), SEQUENCE)
    case("layer_norm", lambda: layers.LayerNormalization(epsilon=0.1), SEQUENCE)
    case("layer_norm_axes", lambda: layers.LayerNormalization(axis=[1, 2], center=False), SEQUENCE)
    case("group_norm", lambda: layers.GroupNormalization(2, epsilon=0.1), IMAGE)
    case("group_norm_all", lambda: layers.GroupNormalization(-1, scale=False), IMAGE)
    case("unit_norm", lambda: layers.UnitNormalization(), SEQUENCE)
    case("embedding", lambda: layers.Embedding(9, 3), ("ids", 5))
    rnns = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}
    for name, rnn in rnns.items():
        case(name, lambda r=rnn: r(3), SEQUENCE)
        case(f"{name}_all", lambda r=rnn: r(3, return_sequences=True, go_backwards=True, activation="relu"), SEQUENCE)
        case(f"{name}_no_bias", lambda r=rnn: r(3, use_bias=False), SEQUENCE)
    for mode in ("concat", "sum", "mul", "ave"):
        case(
            f"both_{mode}",
            lambda m=mode: layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode=m),
            SEQUENCE,
        )
    case("both_last", lambda: layers.Bidirectional(layers.LSTM(3, recurrent_activation="hard_sigmoid")), SEQUENCE)
    case("gru_before", lambda: layers.GRU(3, reset_after=False, recurrent_activation="hard_sigmoid"), SEQUENCE)
    case("each_dense", lambda: layers.TimeDistributed(layers.Dense(3, activation="softmax")), SEQUENCE)
    case("each_conv", lambda: layers.TimeDistributed(layers.Conv2D(3, 3)), (2, 4, 5, 2))
    case("attention", lambda: layers.MultiHeadAttention(2, 3), SEQUENCE, SEQUENCE)
    value_dim = 3 if is_3 else 2  # two widths fail in Keras 3.15.1 on JAX 0.10.2
    case(
        "attention_cross",
        lambda: layers.MultiHeadAttention(2, 3, value_dim=value_dim, use_bias=False),
        SEQUENCE,
        (3, 4),
        (3, 4),
    )
    for axes, shape in ((1, SEQUENCE), (2, IMAGE), (3, VOLUME)):
        for kind in ("Max", "Average"):
            pool, whole = getattr(layers, f"{kind}Pooling{axes}D"), getattr(layers, f"Global{kind}Pooling{axes}D")
            case(f"{kind}{axes}", lambda p=pool: p(2), shape)
            case(f"{kind}{axes}_same", lambda p=pool: p(3, strides=2, padding="same"), shape)
            case(f"{kind}{axes}_global", lambda w=whole: w(), shape)
    case("global_kept", lambda: layers.GlobalAveragePooling2D(keepdims=True), IMAGE)
    case("padded1", lambda: layers.ZeroPadding1D((1, 2)), SEQUENCE)
    case("padded2", lambda: layers.ZeroPadding2D(((1, 0), (2, 3))), IMAGE)
    case("padded2_two", lambda: layers.ZeroPadding2D((1, 2)), IMAGE)
    case("padded3", lambda: layers.ZeroPadding3D(1), VOLUME)
    case("cropped1", lambda: layers.Cropping1D((1, 2)), SEQUENCE)
    case("cropped2", lambda: layers.Cropping2D(((1, 0), (2, 3))), IMAGE)
    case("larger1", lambda: layers.UpSampling1D(2), SEQUENCE)
    case("larger2", lambda: layers.UpSampling2D((2, 3)), (2, 3, 4))
    case("larger2_smooth", lambda: layers.UpSampling2D((2, 3), interpolation="bilinear"), (2, 3, 4))
    case("flatten", lambda: layers.Flatten(), IMAGE)
    case("reshape", lambda: layers.Reshape((6, -1)), IMAGE)
    case("permute", lambda: layers.Permute((3, 1, 2)), IMAGE)
    case("repeat", lambda: layers.RepeatVector(3), (4,))
    for name in ("Add", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):
        case(name, lambda n=name: getattr(layers, n)(), SEQUENCE, SEQUENCE, SEQUENCE)
    case("Subtract", lambda: layers.Subtract(), SEQUENCE, SEQUENCE)
    case("concatenate_axis", lambda: layers.Concatenate(axis=1), SEQUENCE, (2, 4))
    case("dot", lambda: layers.Dot(1), (4,), (4,))
    case("dot_normal", lambda: layers.Dot(axes=(2, 1), normalize=True), SEQUENCE, (4, 3))
    case("leaky", lambda: layers.LeakyReLU(), SEQUENCE)
    case("leaky_set", lambda: layers.LeakyReLU(0.05), SEQUENCE)
    case("elu_set", lambda: layers.ELU(0.5), SEQUENCE)
    case("prelu", lambda: layers.PReLU(), SEQUENCE)
    case("prelu_shared", lambda: layers.PReLU(shared_axes=[1, 2]), IMAGE)
    case("relu_all", lambda: layers.ReLU(max_value=1.5, negative_slope=0.2, threshold=0.3), SEQUENCE)
    case("softmax_axis", lambda: layers.Softmax(axis=1), SEQUENCE)
    case("dropout", lambda: layers.Dropout(0.5), SEQUENCE)
    case("noise", lambda: layers.GaussianNoise(0.5), SEQUENCE)
    case("rescaling", lambda: layers.Rescaling(0.5, offset=1.0), IMAGE)
    case("rescaling_each", lambda: layers.Rescaling([0.5, 1.0, 2.0, 3.0], offset=[1.0, 0.0, 0.0, -1.0]), IMAGE)
    case("normalization", lambda: layers.Normalization(), IMAGE)
    case(
        "normalization_set",
        lambda: layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 3.0, 4.0]),
        IMAGE,
    )
    for name in ACTIVATIONS if is_3 else OLD_ACTIVATIONS:
        case(f"activation_{name}", lambda n=name: layers.Activation(n), SEQUENCE)
    if is_3:
        case("rms", lambda: layers.RMSNormalization(epsilon=0.1), SEQUENCE)
        case("layer_norm_rms", lambda: layers.LayerNormalization(rms_scaling=True, epsilon=0.1), SEQUENCE)
    else:
        case("thresholded", lambda: layers.ThresholdedReLU(0.4), SEQUENCE)
    return found


def plain(value):
    """A configuration without what makes and limits weights."""
    if isinstance(value, dict):
        left_out = ("initializer", "regularizer", "constraint", "dtype", "registered_name", "build_config")
        return {key: plain(one) for key, one in value.items() if not key.endswith(left_out)}
    return [plain(one) for one in value] if isinstance(value, list) else value


def leaf(path, kind):
    """The name of a weight in its layer, in the words of the readers."""
    own = path.split(":")[0].split("/")[-1]
    if kind == "Bidirectional":
        return ("forward/" if "forward" in path else "backward/") + own
    if kind == "MultiHeadAttention":
        return path.split(":")[0].split("/")[-2] + "/" + own
    if kind.startswith("Depthwise") and own == "kernel":
        return "depthwise_kernel"
    return own


def main():
    package, target = sys.argv[1:]
    keras = importlib.import_module(package)
    arrays, table = {}, {}
    random = np.random.default_rng(0)
    for name, (make, shapes) in cases(keras.layers, package == "keras").items():
        layer = make()
        places = [f"input {index} {shape}" for index, shape in enumerate(shapes)]
        for place, shape in zip(places, shapes, strict=True):
            if place not in arrays:  # layers that take the same shapes share their inputs
                is_text = shape[0] == "ids"
                value = random.integers(0, 9, (2, *shape[1:])) if is_text else random.standard_normal((2, *shape)) * 2
                arrays[place] = value.astype(np.int32 if is_text else np.float32)
        inputs = [arrays[place] for place in places]
        call = inputs[0] if len(inputs) == 1 else inputs
        is_attention = type(layer).__name__ == "MultiHeadAttention"
        layer(*inputs) if is_attention else layer(call)
        names = []
        for weight in layer.weights:
            own = leaf(getattr(weight, "path", weight.name), type(layer).__name__)
            if own == "count":
                continue
            value = (
                random.uniform(0.3, 1.5, weight.shape)
                if "variance" in own or "gamma" in own
                else random.standard_normal(weight.shape)
            )
            weight.assign(value.astype(np.float32))
            arrays[f"{name}:{own}"] = np.asarray(value, np.float32)
            names.append(own)
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
        output = layer(*inputs) if is_attention else layer(call)
        arrays[f"{name}:output"] = np.asarray(output, np.float32)
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer), default=str))
        config = plain(config)
        table[name] = {"kind": config["class_name"], "config": config["config"], "inputs": places, "leaves": names}
    places = {name: [list(value.shape), str(value.dtype)] for name, value in arrays.items()}
    np.save(f"{target}.npy", np.concatenate([value.ravel().view(np.float32) for value in arrays.values()]))
    with open(f"{target}.json", "w") as file:
        table["arrays"] = places
        file.write(
            "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items()) + "\n}\n"
        )


if __name__ == "__main__":
    main()
