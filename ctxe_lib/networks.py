"""The two context encoders of the paper (sections 2.2 and 2.3, Figs. 2 and 3).

The network takes the time-frequency coefficients of both contexts, [context_frames, bins, 4], and gives those of
the gap, [gap_frames, bins, 1] (magnitude network) or [gap_frames, bins, 2] (complex network: real and imaginary
part). Layers of plain Keras are the specification. The transposed convolutions whose kernels are long in
frequency also come as a :class:`SpectralDeconv2D`, which gives the same function with the same weights by
multiplying spectra along the frequency axis; that is what a CPU should run.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from ctxe_lib.geometry import Geometry

__all__ = ["Kind", "SpectralDeconv2D", "build_network", "layer_table", "trainable_parameters"]

Kind = Literal["magnitude", "complex"]

ENCODER: tuple[tuple[int, tuple[int, int], tuple[int, int]], ...] = (
    (32, (7, 89), (2, 2)),
    (128, (3, 17), (2, 3)),
    (512, (2, 11), (2, 3)),
    (256, (1, 9), (1, 2)),
    (160, (1, 5), (1, 1)),
    (128, (2, 5), (1, 1)),
)
"""Channels, kernel (time, frequency) and stride of the encoder's convolutions (Fig. 2)."""

DENSE = 2048
"""Width of the fully connected layer, reshaped to 8 x 8 x 32 for the decoder (Fig. 3)."""


class EqualisedDeconv2D(keras.layers.Conv2DTranspose):
    """Transposed convolution whose kernel is stored as ``w`` and used as ``w * gain``.

    With ``gain = 1 / sqrt(fan-in)`` the learning rate is equalised: a step of Adam moves the output by as much as in
    a layer with few inputs. The class of functions is that of the plain layer.

    Parameters
    ----------
    gain : float
        Factor between stored and effective kernel; 1 for the plain layer.
    **kwargs
        Of ``keras.layers.Conv2DTranspose``.
    """

    def __init__(self, *args: Any, gain: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = gain

    @property
    def effective_kernel(self) -> tf.Tensor:
        """The kernel as it acts, [time, frequency, output channels, input channels]."""
        return tf.convert_to_tensor(self.kernel) * tf.cast(self.gain, self.kernel.dtype)

    def convolve(self, inputs: tf.Tensor) -> tf.Tensor:
        """Transposed convolution without bias: [n, time, frequency, channels] to the same, upsampled."""
        batch, (time, frequency) = tf.shape(inputs)[0], inputs.shape[1:3]
        size = tf.stack([batch, time * self.strides[0], frequency * self.strides[1], self.filters])
        return tf.nn.conv2d_transpose(inputs, self.effective_kernel, size, self.strides, "SAME")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Apply the layer, bias and activation included."""
        return self.activation(self.convolve(inputs) + self.bias)

    def get_config(self) -> dict[str, Any]:
        """Configuration for serialisation."""
        return {**super().get_config(), "gain": self.gain}


class SpectralDeconv2D(EqualisedDeconv2D):
    """The same transposed convolution as products of spectra along the frequency axis.

    A kernel of 257 taps in frequency costs 257 multiplications per point when applied directly, and libraries pick
    poor code for such shapes. A Fourier transform along that axis turns it into one small matrix product per
    spectral line, in which time taps and channels are summed. Input and output agree with the plain layer to
    rounding.
    """

    def convolve(self, inputs: tf.Tensor) -> tf.Tensor:
        """Transposed convolution without bias, as in the parent class."""
        time, frequency, channels = inputs.shape[1:]
        (time_taps, taps), (time_stride, stride) = self.kernel_size, self.strides
        crop_time, crop = _same_padding(time_taps, time_stride), _same_padding(taps, stride)
        # Phase p of the output (output index = stride * q + p) sees the taps p + crop, p + crop +- stride, ...
        reach = _reach(taps, stride, crop)
        points = _fast_length(frequency + max(reach))
        spectrum = tf.signal.rfft(tf.transpose(inputs, [0, 1, 3, 2]), [points])  # [n, time, channels, lines]
        spectrum = tf.transpose(spectrum, [3, 0, 1, 2])  # [lines, n, time, channels]
        lines = points // 2 + 1
        kernels = self._kernel_spectra(points, stride, crop)  # [lines, time taps, channels, phases * filters]
        reach_time = _reach(time_taps, time_stride, crop_time)
        padded = tf.pad(spectrum, [[0, 0], [0, 0], reach_time, [0, 0]])
        width = sum(reach_time) + 1
        windows = tf.concat([padded[:, :, i : i + time] for i in range(width)], axis=-1)
        batch = tf.shape(inputs)[0]
        windows = tf.reshape(windows, [lines, batch * time, width * channels])
        matrix = self._time_matrix(kernels, crop_time, reach_time)  # [lines, width * channels, time phases * ...]
        product = _complex_matmul(windows, matrix)
        product = tf.reshape(product, [lines, batch, time, time_stride, stride, self.filters])
        # to [n, time, time phase, phase, filters, lines], back along frequency, then interleave the phases
        signal = tf.signal.irfft(tf.transpose(product, [1, 2, 3, 4, 5, 0]), [points])[..., :frequency]
        signal = tf.transpose(signal, [0, 1, 2, 5, 3, 4])
        return tf.reshape(signal, [batch, time * time_stride, frequency * stride, self.filters])

    def _kernel_spectra(self, points: int, stride: int, crop: int) -> tf.Tensor:
        """Spectra of the kernel's phases in frequency, [lines, time taps, channels, phases, filters]."""
        taps = self.kernel_size[1]
        index = np.full((stride, points), taps)  # `taps` addresses an appended zero
        for phase in range(stride):
            for tap in range((phase + crop) % stride, taps, stride):
                index[phase, (tap - phase - crop) // stride % points] = tap
        kernel = tf.pad(self.effective_kernel, [[0, 0], [0, 1], [0, 0], [0, 0]])
        placed = tf.gather(kernel, index.ravel(), axis=1)
        placed = tf.reshape(placed, [self.kernel_size[0], stride, points, *kernel.shape[2:]])
        return tf.transpose(tf.signal.rfft(tf.transpose(placed, [0, 4, 1, 3, 2])), [4, 0, 1, 2, 3])

    def _time_matrix(self, kernels: tf.Tensor, crop: int, reach: tuple[int, int]) -> tf.Tensor:
        """Arrange the time taps so that one product gives every time phase, [lines, window * in, phases * out]."""
        taps, stride = self.kernel_size[0], self.strides[0]
        width = sum(reach) + 1
        index = np.full((width, stride), taps)
        for phase in range(stride):
            for offset in range(width):  # input frame q + offset - reach[0] reaches output frame stride * q + phase
                tap = phase + crop - stride * (offset - reach[0])
                if 0 <= tap < taps:
                    index[offset, phase] = tap
        lines, _, channels, phases, filters = kernels.shape
        padded = tf.pad(kernels, [[0, 0], [0, 1], [0, 0], [0, 0], [0, 0]])
        placed = tf.reshape(
            tf.gather(padded, index.ravel(), axis=1), [lines, width, stride, channels, phases * filters]
        )
        return tf.reshape(tf.transpose(placed, [0, 1, 3, 2, 4]), [lines, width * channels, stride * phases * filters])


def _same_padding(taps: int, stride: int) -> int:
    """Samples that a SAME transposed convolution drops at its output's start."""
    return max(taps - stride, 0) // 2


def _reach(taps: int, stride: int, crop: int) -> tuple[int, int]:
    """How many inputs before and after its own an output depends on."""
    before = max((taps - 1 - crop - phase) // stride for phase in range(stride))
    after = max((phase + crop) // stride for phase in range(stride))
    return max(before, 0), after


def _fast_length(minimum: int) -> int:
    """The smallest even length of at least ``minimum`` with no prime factor above 5."""
    length = minimum + minimum % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2


def _complex_matmul(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Product of complex matrices as one real product, for which libraries have the better code."""
    left = tf.concat([tf.math.real(left), tf.math.imag(left)], axis=-1)
    real, imag = tf.math.real(right), tf.math.imag(right)
    right = tf.concat([tf.concat([real, imag], axis=-1), tf.concat([-imag, real], axis=-1)], axis=-2)
    real, imag = tf.split(tf.matmul(left, right), 2, axis=-1)
    return tf.complex(real, imag)


def build_network(
    kind: Kind,
    geometry: Geometry,
    *,
    layers: Literal["auto", "plain", "spectral"] = "auto",
    equalised: bool = False,
    seed: int | None = None,
) -> keras.Model:
    """Build a context encoder (Figs. 2 and 3).

    Parameters
    ----------
    kind : {'magnitude', 'complex'}
        One output channel, or two.
    geometry : Geometry
        With the defaults the magnitude network has 11,173,445 trainable parameters.
    layers : {'auto', 'plain', 'spectral'}
        Code for the two last transposed convolutions: Keras' own or spectral; ``auto`` takes the spectral one on CPUs
        and the plain one where TensorFlow sees a GPU. Weights fit either.
    equalised : bool
        Store the kernels of the two last transposed convolutions divided by ``1 / sqrt(fan-in)`` and start the last
        one near zero. For training from scratch; :func:`ctxe_lib.weights.save` stores effective kernels.
    seed : int or None
        Of the initial weights (Glorot uniform).

    Returns
    -------
    keras.Model
        [n, context_frames, bins, 4] to [n, gap_frames, bins, 1 or 2].

    Raises
    ------
    ValueError
        If ``kind`` or ``layers`` is none of the above.
    """
    if kind not in ("magnitude", "complex"):
        raise ValueError(f"kind={kind!r} must be 'magnitude' or 'complex'")
    if layers not in ("auto", "plain", "spectral"):
        raise ValueError(f"layers={layers!r} must be 'auto', 'plain' or 'spectral'")
    if layers == "auto":
        layers = "plain" if tf.config.list_physical_devices("GPU") else "spectral"
    long_kernel = SpectralDeconv2D if layers == "spectral" else EqualisedDeconv2D
    seeds = iter(np.random.SeedSequence(seed).generate_state(16))

    def initializer(scale: float = 1.0) -> keras.initializers.Initializer:
        return keras.initializers.VarianceScaling(scale, "fan_avg", "uniform", seed=int(next(seeds)))

    def activate(x: Any, name: str) -> Any:
        return keras.layers.BatchNormalization(name=f"{name}_norm")(keras.layers.ReLU(name=f"{name}_relu")(x))

    def deconv(x: Any, name: str, filters: int, kernel: tuple[int, int], stride: int, *, last: bool = False) -> Any:
        long = kernel[1] > 16
        gain = 1.0
        init = initializer()
        if long and equalised:
            gain = 1 / math.sqrt(kernel[0] * kernel[1] * x.shape[-1] / stride**2)
            init = keras.initializers.RandomNormal(0.0, 0.01 if last else math.sqrt(2.0), seed=int(next(seeds)))
        layer = long_kernel if long else EqualisedDeconv2D
        return layer(filters, kernel, stride, "same", kernel_initializer=init, gain=gain, name=name)(x)

    x = inputs = keras.Input((geometry.context_frames, geometry.bins, 4), name="contexts")
    for i, (filters, kernel, strides) in enumerate(ENCODER, 1):
        x = keras.layers.Conv2D(filters, kernel, strides, "same", kernel_initializer=initializer(), name=f"conv{i}")(x)
        x = activate(x, f"conv{i}")
    x = keras.layers.Flatten(name="flatten")(x)
    x = activate(keras.layers.Dense(DENSE, kernel_initializer=initializer(), name="dense")(x), "dense")
    x = keras.layers.Reshape((8, 8, 32), name="to_plane")(x)
    x = activate(deconv(x, "deconv1", 128, (8, 8), 2), "deconv1")
    x = activate(deconv(x, "deconv2", 512, (5, 5), 2), "deconv2")
    x = activate(deconv(x, "deconv3", geometry.bins, (3, 3), 1), "deconv3")
    x = keras.layers.Reshape((8, geometry.bins, 128), name="channels_to_frequency")(x)
    x = activate(deconv(x, "deconv4", geometry.gap_frames, (5, 67), 2), "deconv4")
    x = keras.layers.Reshape((geometry.gap_frames, geometry.bins, 32), name="channels_to_time")(x)
    channels = 1 if kind == "magnitude" else 2
    outputs = deconv(x, "deconv5", channels, (11, geometry.bins), 1, last=True)
    return keras.Model(inputs, outputs, name=kind)


def trainable_parameters(model: keras.Model) -> int:
    """Number of trainable parameters of a model."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def layer_table(model: keras.Model) -> pd.DataFrame:
    """Layers with weights, as the figures of the paper list them.

    Parameters
    ----------
    model : keras.Model
        From :func:`build_network`.

    Returns
    -------
    pandas.DataFrame
        One row per convolution or dense layer: kernel, stride, output shape, trainable parameters of the layer and
        of the batch normalisation behind it, share of all trainable parameters in percent.
    """
    total = trainable_parameters(model)
    rows: list[dict[str, Any]] = []
    for layer in model.layers:
        count = sum(math.prod(v.shape) for v in layer.trainable_variables)
        if isinstance(layer, keras.layers.BatchNormalization):
            rows[-1]["parameters"] += count
        elif count:
            kernel = getattr(layer, "kernel_size", None)
            rows.append(
                {
                    "layer": layer.name,
                    "kernel": " x ".join(map(str, kernel)) if kernel else "",
                    "stride": " x ".join(map(str, layer.strides)) if kernel else "",
                    "output": " x ".join(map(str, layer.output.shape[1:])),
                    "parameters": count,
                }
            )
    table = pd.DataFrame(rows)
    table["share (%)"] = 100 * table["parameters"] / total
    return table
