"""The well-known families of networks in the words of Keras, small: each takes the package and gives a model."""

from __future__ import annotations

from typing import Any


def resnet(keras: Any) -> Any:
    """Residual blocks whose downsample convolution has the shape of another convolution of its block."""
    layers = keras.layers

    def norm(x: Any) -> Any:
        return layers.BatchNormalization(epsilon=1.001e-5)(x)

    def block(x: Any, stride: int, *, projects: bool) -> Any:
        y = layers.ReLU()(norm(layers.Conv2D(8, 1, strides=stride)(x)))
        y = layers.ReLU()(norm(layers.Conv2D(8, 3, padding="same")(y)))
        y = norm(layers.Conv2D(8, 1)(y))
        return layers.ReLU()(layers.Add()([norm(layers.Conv2D(8, 1, strides=stride)(x)) if projects else x, y]))

    x = start = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 7, strides=2, padding="valid")(layers.ZeroPadding2D(3)(x))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(layers.ReLU()(norm(x))))
    for stride, projects in ((1, True), (1, False), (2, True), (1, False)):
        x = block(x, stride, projects=projects)
    return keras.Model(start, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def mobilenet(keras: Any) -> Any:
    """Inverted residuals with ReLU6; stride 2 is padded after the image."""
    layers = keras.layers

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=1e-3, momentum=0.999, name=name)(x)

    def relu6(x: Any) -> Any:
        return layers.ReLU(6.0)(x)

    x = start = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="Conv1")(x)
    x = relu6(norm(x, "bn_Conv1"))
    for index, stride in enumerate((1, 2, 1, 2, 1)):
        y = relu6(
            norm(layers.Conv2D(16, 1, use_bias=False, name=f"block_{index}_expand")(x), f"block_{index}_expand_BN")
        )
        y = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=f"block_{index}_depthwise")(
            y
        )
        y = relu6(norm(y, f"block_{index}_depthwise_BN"))
        y = norm(layers.Conv2D(8, 1, use_bias=False, name=f"block_{index}_project")(y), f"block_{index}_project_BN")
        x = layers.Add()([x, y]) if stride == 1 else y
    return keras.Model(start, layers.Dense(5, name="predictions")(layers.GlobalAveragePooling2D()(x)))


def efficientnet(keras: Any) -> Any:
    """Inverted residuals with squeeze and excitation, and swish."""
    layers = keras.layers
    x = start = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, activation=None, name="stem_conv")(x)
    x = layers.Activation("swish")(layers.BatchNormalization(name="stem_bn")(x))
    for index, (kernel, stride) in enumerate(((3, 1), (5, 2), (3, 1))):
        name = f"block{index + 1}"
        y = layers.Conv2D(16, 1, use_bias=False, name=f"{name}_expand_conv")(x)
        y = layers.Activation("swish")(layers.BatchNormalization(name=f"{name}_expand_bn")(y))
        y = layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_dwconv")(y)
        y = layers.Activation("swish")(layers.BatchNormalization(name=f"{name}_bn")(y))
        gate = layers.Reshape((1, 1, 16))(layers.GlobalAveragePooling2D()(y))
        gate = layers.Conv2D(4, 1, activation="swish", name=f"{name}_se_reduce")(gate)
        gate = layers.Conv2D(16, 1, activation="sigmoid", name=f"{name}_se_expand")(gate)
        y = layers.Conv2D(8, 1, use_bias=False, name=f"{name}_project_conv")(layers.Multiply()([y, gate]))
        y = layers.BatchNormalization(name=f"{name}_project_bn")(y)
        x = layers.Add()([x, y]) if stride == 1 else y
    return keras.Model(start, layers.Dense(5, name="predictions")(layers.GlobalAveragePooling2D()(x)))


def _encoder(layers: Any, x: Any, name: str, *, hidden: int = 16, before: bool = True) -> Any:
    """One transformer block; `before`: whether its norms stand before attention and feed-forward part."""
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x) if before else x
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name=f"{name}_attention")(y, y)])
    if not before:
        x = layers.LayerNormalization(epsilon=1e-12, name=f"{name}_norm1")(x)
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x) if before else x
    y = layers.Dense(hidden, activation="gelu", name=f"{name}_up")(y)
    x = layers.Add()([x, layers.Dense(8, name=f"{name}_down")(y)])
    return x if before else layers.LayerNormalization(epsilon=1e-12, name=f"{name}_norm2")(x)


def vit(keras: Any) -> Any:
    """Patches, positions, three transformer blocks, mean of tokens."""
    layers = keras.layers
    image, positions = keras.Input((16, 16, 3)), keras.Input((16,), dtype="int32")
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 4, strides=4, name="patches")(image))
    x = layers.Add()([x, layers.Embedding(16, 8, name="positions")(positions)])
    for index in range(3):
        x = _encoder(layers, x, f"encoder_{index}")
    x = layers.LayerNormalization(epsilon=1e-6, name="encoder_norm")(x)
    return keras.Model([image, positions], layers.Dense(5, name="head")(layers.GlobalAveragePooling1D()(x)))


def bert(keras: Any) -> Any:
    """Words, kinds and positions, norms after the sums, square feed-forward parts, a pooler of tanh."""
    layers = keras.layers
    words, kinds, places = (keras.Input((6,), dtype="int32") for _ in range(3))
    tables = (("word_embeddings", 32, words), ("token_type_embeddings", 8, kinds), ("position_embeddings", 8, places))
    x = layers.Add()([layers.Embedding(size, 8, name=name)(ids) for name, size, ids in tables])
    x = layers.LayerNormalization(epsilon=1e-12, name="embeddings_norm")(x)
    for index in range(3):
        x = _encoder(layers, x, f"layer_{index}", hidden=8, before=False)
    x = layers.Dense(8, activation="tanh", name="pooler")(layers.Cropping1D((0, 5))(x))
    return keras.Model([words, kinds, places], layers.Dense(8, name="classifier")(layers.Flatten()(x)))


def twelve_blocks(keras: Any) -> Any:
    """Twelve equal transformer blocks: `layer_10` stands before `layer_2` in the alphabet."""
    layers = keras.layers
    x = start = keras.Input((5, 8))
    for index in range(12):
        x = _encoder(layers, x, f"layer_{index}", hidden=8)
    return keras.Model(start, x)


def unet(keras: Any) -> Any:
    """Down and up again, with the maps of each size side by side."""
    layers = keras.layers
    x = start = keras.Input((16, 16, 2))
    kept = []
    for width in (4, 8):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        kept.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    for width in (8, 4):
        x = layers.Conv2DTranspose(width, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([kept.pop(), x])
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    return keras.Model(start, layers.Conv2D(1, 1, activation="sigmoid")(x))


def densenet(keras: Any) -> Any:
    """Each block sees the outputs of all before it; norms stand before convolutions."""
    layers = keras.layers
    x = start = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1_conv")(x)
    for index in range(1, 4):
        y = layers.ReLU()(layers.BatchNormalization(epsilon=1.001e-5, name=f"block{index}_0_bn")(x))
        y = layers.Conv2D(8, 1, use_bias=False, name=f"block{index}_1_conv")(y)
        y = layers.ReLU()(layers.BatchNormalization(epsilon=1.001e-5, name=f"block{index}_1_bn")(y))
        x = layers.Concatenate()(
            [x, layers.Conv2D(4, 3, padding="same", use_bias=False, name=f"block{index}_2_conv")(y)]
        )
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1.001e-5, name="bn")(x))
    return keras.Model(start, layers.Dense(4, name="predictions")(layers.GlobalAveragePooling2D()(x)))
