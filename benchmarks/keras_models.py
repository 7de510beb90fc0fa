"""The networks that are compared with Keras, in its layers: same widths, same parameters, channels last.

"same" padding shifts the window of a convolution of stride 2 by one pixel against PyTorch's; its cost is equal.
"""

from keras import Model, Sequential, layers


def fcn(image_shape: tuple[int, int, int], num_classes: int) -> Model:
    model = Sequential([layers.Input(image_shape), layers.Flatten()])
    for width in (512, 256, 128):
        model.add(layers.Dense(width, activation="relu"))
        model.add(layers.Dropout(0.25))
    model.add(layers.Dense(num_classes))
    return model


def simple_cnn(image_shape: tuple[int, int, int], num_classes: int) -> Model:
    model = Sequential([layers.Input(image_shape)])
    for width in (32, 64):
        model.add(layers.Conv2D(width, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(128, activation="relu"))
    model.add(layers.Dropout(0.25))
    model.add(layers.Dense(num_classes))
    return model


def cnn_with_residual(image_shape: tuple[int, int, int], num_classes: int) -> Model:
    images = layers.Input(image_shape)
    x = layers.ReLU()(_normalised_convolution(images, 32, 3, 1))
    for width, stride in ((32, 1), (64, 2), (128, 2), (256, 2)):
        x = _residual_block(x, width, stride)
        x = _residual_block(x, width, 1)
    return Model(images, layers.Dense(num_classes)(layers.GlobalAveragePooling2D()(x)))


def _residual_block(x, width: int, stride: int):
    shortcut = x
    if stride != 1 or x.shape[-1] != width:
        shortcut = _normalised_convolution(x, width, 1, stride)
    x = layers.ReLU()(_normalised_convolution(x, width, 3, stride))
    return layers.ReLU()(layers.Add()([_normalised_convolution(x, width, 3, 1), shortcut]))


def _normalised_convolution(x, width: int, size: int, stride: int):
    """A convolution without bias, then batch normalisation with PyTorch's constants."""
    x = layers.Conv2D(width, size, stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


MODELS = {"FCN-mnist": fcn, "SimpleCNN-mnist": simple_cnn, "CNNWithResidual-cifar10": cnn_with_residual}
