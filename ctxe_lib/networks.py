"""The two context encoders of the paper (sections 2.2 and 2.3, Figs. 2 and 3).

The network takes the time-frequency coefficients of both contexts, [context_frames, bins, 4], and gives those of
the gap, [gap_frames, bins, 1] (magnitude network) or [gap_frames, bins, 2] (complex network: real and imaginary
part). Layers of plain Keras are the specification; a CPU should run the fast layers, which give the same function
with the same weights: :class:`SpectralConv2D` and :class:`SpectralDeconv2D` where kernels are long in frequency,
:class:`WinogradDeconv2D` where they are short, :class:`FusedBatchNormalization` after each of them.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from ctxe_lib.geometry import Geometry
from ctxe_lib.stft import window

__all__ = [
    "EqualisedDeconv2D",
    "FusedBatchNormalization",
    "Kind",
    "Precision",
    "SpectralConv2D",
    "SpectralDeconv2D",
    "WinogradDeconv2D",
    "build_network",
    "has_bfloat16",
    "in_precision",
    "layer_table",
    "trainable_parameters",
]

Kind = Literal["magnitude", "complex"]

Precision = Literal["single", "mixed"]
"""What layers compute in: single precision, or (mixed) bfloat16 with weights, inputs and outputs in single precision.

The latter is faster on GPUs, and on CPUs that multiply matrices of bfloat16 (AMX). On CPUs without any instructions for
it, it is slower and less exact, for sums are rounded too, and :func:`in_precision` warns.
"""

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
    poor code for such shapes. A Fourier transform along that axis, itself a matrix product, turns it into one small
    matrix product per spectral line, which gives every time tap's share; these are then added up along time. Input
    and output agree with the plain layer to rounding.
    """

    def convolve(self, inputs: tf.Tensor) -> tf.Tensor:
        """Transposed convolution without bias, as in the parent class."""
        batch, (time, frequency, channels) = tf.shape(inputs)[0], inputs.shape[1:]
        (time_taps, taps), (time_stride, stride), filters = self.kernel_size, self.strides, self.filters
        points = frequency + max(_reach(taps, stride))  # what wraps around falls outside the output
        lines = points // 2 + 1
        spectra = _times(_fourier(np.arange(frequency), points), tf.reshape(inputs, [-1, frequency, channels]))
        spectra = tf.reshape(spectra, [-1, lines, 2 * channels])  # real parts, then imaginary ones
        product = tf.matmul(tf.transpose(spectra, [1, 0, 2]), self._line_matrices(points))
        product = tf.reshape(product, [lines, batch, time, time_taps, 2 * stride * filters])
        summed = _add_in_time(product, time_stride)
        summed = tf.reshape(summed, [lines, batch * time * time_stride, 2, stride * filters])
        summed = tf.reshape(tf.transpose(summed, [1, 3, 0, 2]), [-1, 2 * lines])
        signal = _times(summed, _inverse_fourier(frequency, points))
        signal = tf.reshape(signal, [batch, time * time_stride, stride, filters, frequency])
        signal = tf.transpose(signal, [0, 1, 4, 2, 3])
        return tf.reshape(signal, [batch, time * time_stride, frequency * stride, filters])

    def _line_matrices(self, points: int) -> tf.Tensor:
        """Spectra of the kernel as real matrices, [lines, 2 * channels, time taps * 2 * stride * filters]."""
        (time_taps, taps), stride = self.kernel_size, self.strides[1]
        channels, lines, crop = self.kernel.shape[-1], points // 2 + 1, _same_padding(taps, stride)
        kernel = tf.transpose(self.effective_kernel, [1, 3, 0, 2])  # [taps, channels, time taps, filters]
        kernel = tf.pad(kernel, [[0, -taps % stride], [0, 0], [0, 0], [0, 0]])
        residues = tf.unstack(tf.reshape(kernel, [-(-taps // stride), stride, -1]), axis=1)
        phases = []
        for phase in range(stride):  # output stride * q + phase meets input q - (tap - phase - crop) / stride
            first = (phase + crop) % stride
            shifts = (np.arange(first, first + taps, stride) - phase - crop) // stride
            spectrum = _times(_fourier(shifts, points), residues[first])
            phases.append(tf.reshape(spectrum, [lines, 2, channels, time_taps, self.filters]))
        real, imag = tf.unstack(tf.concat(phases, axis=-1), axis=1)
        matrix = tf.concat([tf.concat([real, imag], axis=-1), tf.concat([-imag, real], axis=-1)], axis=1)
        return tf.reshape(matrix, [lines, 2 * channels, -1])


class SpectralConv2D(keras.layers.Conv2D):
    """The same convolution (SAME padding) as products of spectra along the frequency axis.

    For the first layer, whose kernel has 89 taps in frequency and whose input is no trainable layer's output.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Apply the layer, bias and activation included."""
        batch, (time, frequency, channels) = tf.shape(inputs)[0], inputs.shape[1:]
        (time_taps, taps), (time_stride, stride), filters = self.kernel_size, self.strides, self.filters
        times, frequencies = -(-time // time_stride), -(-frequency // stride)
        before_time = max((times - 1) * time_stride + time_taps - time, 0) // 2
        before = max((frequencies - 1) * stride + taps - frequency, 0) // 2
        points = frequencies + max(before, taps - before) // stride + 1
        lines = points // 2 + 1
        # Spectra of the input's phases in frequency: phase r holds the samples stride * m + r.
        index = np.arange(frequency)
        transform = np.zeros((frequency, lines, stride, 2), np.float32)
        transform[index, :, index % stride] = (
            _fourier(index // stride, points).reshape(lines, 2, frequency).transpose(2, 0, 1)
        )
        rows = tf.reshape(tf.transpose(inputs, [0, 1, 3, 2]), [-1, frequency])
        spectra = _times(rows, transform.reshape(frequency, -1))
        spectra = tf.reshape(spectra, [batch, time, channels, lines, 2 * stride])
        spectra = tf.transpose(spectra, [3, 0, 1, 4, 2])  # [lines, n, time, phase and part, channels]
        spectra = tf.reshape(spectra, [lines, batch, time, 2 * stride * channels])
        # Frames in groups of one stride; a window is as many groups as hold the taps, the last filled up.
        groups, values = -(-time_taps // time_stride), 2 * stride * channels * time_stride
        after_time = (times + groups - 1) * time_stride - before_time - time
        spectra = tf.pad(spectra, [[0, 0], [0, 0], [before_time, after_time], [0, 0]])
        spectra = tf.reshape(spectra, [lines, batch, times + groups - 1, values])
        windows = tf.concat([spectra[:, :, i : i + times] for i in range(groups)], axis=-1)
        windows = tf.reshape(windows, [lines, batch * times, groups * values])
        # A tap at t meets phase (t - before) % stride, (t - before) // stride samples ahead.
        ahead, phase = np.divmod(np.arange(taps) - before, stride)
        placed = np.zeros((lines, 2, stride, taps), np.float32)
        placed[:, :, phase, np.arange(taps)] = _fourier(-ahead, points).reshape(lines, 2, taps)
        kernel = tf.transpose(tf.convert_to_tensor(self.kernel), [1, 0, 2, 3])
        kernel = tf.pad(kernel, [[0, 0], [0, groups * time_stride - time_taps], [0, 0], [0, 0]])
        matrix = _times(placed.reshape(-1, taps), tf.reshape(kernel, [taps, -1]))
        matrix = tf.reshape(matrix, [lines, 2, stride, groups * time_stride, channels, filters])
        real, imag = tf.unstack(tf.transpose(matrix, [1, 0, 3, 2, 4, 5]))  # [lines, frames, phase, channels, filters]
        matrix = tf.concat([tf.stack([real, -imag], axis=3), tf.stack([imag, real], axis=3)], axis=-1)
        product = tf.matmul(windows, tf.reshape(matrix, [lines, -1, 2 * filters]))
        product = tf.reshape(product, [lines, batch * times, 2, filters])
        product = tf.reshape(tf.transpose(product, [1, 3, 0, 2]), [-1, 2 * lines])
        signal = tf.reshape(
            _times(product, _inverse_fourier(frequencies, points)), [batch, times, filters, frequencies]
        )
        return self.activation(tf.transpose(signal, [0, 1, 3, 2]) + self.bias)


class WinogradDeconv2D(EqualisedDeconv2D):
    """The same transposed convolution by Winograd's minimal filtering F(4 x 4, 3 x 3).

    For kernels that reach one sample to either side of the input, on planes of a multiple of 4: 3 x 3, or 5 x 5 with
    stride 2, of which each phase of the output sees a kernel of at most 3 x 3. A tile of 4 x 4 outputs takes 36
    multiplications per pair of channels instead of 144, as 36 matrix products (A. Lavin and S. Gray, "Fast algorithms
    for convolutional neural networks", CVPR 2016). Gradients pass through the adjoint transforms at the same price.
    """

    def convolve(self, inputs: tf.Tensor) -> tf.Tensor:
        """Transposed convolution without bias, as in the parent class."""
        height, width, channels = inputs.shape[1:]
        taps, strides = math.prod(self.kernel_size), self.strides
        reaches = {_reach(*axis) for axis in zip(self.kernel_size, strides, strict=True)}
        if reaches != {(1, 1)} or height % 4 or width % 4:
            raise ValueError(
                f"kernel {self.kernel_size}, strides {strides} on a plane of {height} x {width}: kernels must reach "
                "one sample to either side and planes be multiples of 4; use EqualisedDeconv2D"
            )
        if inputs.dtype != tf.float32:  # matrix units are done before the transforms would be
            return super().convolve(inputs)
        axes = (_winograd_kernel(*axis) for axis in zip(self.kernel_size, strides, strict=True))
        transform = np.einsum("ipt,jqu->ijpqtu", *axes).reshape(-1, taps).astype(np.float32)
        kernel = _times(transform, tf.reshape(self.effective_kernel, [taps, -1]))
        tiles = tf.reshape(_tiles(inputs), [36, -1, channels])
        product = tf.matmul(tiles, tf.reshape(kernel, [36, -1, channels]), transpose_b=True)
        outputs = _times(np.kron(WINOGRAD_OUTPUT, WINOGRAD_OUTPUT), tf.reshape(product, [36, -1]))
        outputs = tf.reshape(outputs, [4, 4, -1, height // 4, width // 4, *strides, self.filters])
        outputs = tf.transpose(outputs, [2, 3, 0, 5, 4, 1, 6, 7])  # [n, tile, row, phase, tile, column, phase, filters]
        return tf.reshape(outputs, [-1, height * strides[0], width * strides[1], self.filters])


WINOGRAD_INPUT, WINOGRAD_KERNEL, WINOGRAD_OUTPUT = (
    np.array([[float(Fraction(entry)) for entry in row.split()] for row in rows.split(",")], np.float32)
    for rows in (
        "4 0 -5 0 1 0, 0 -4 -4 1 1 0, 0 4 -4 -1 1 0, 0 -2 -1 2 1 0, 0 2 -1 -2 1 0, 0 4 0 -5 0 1",
        "1/4 0 0, -1/6 -1/6 -1/6, -1/6 1/6 -1/6, 1/24 1/12 1/6, 1/24 -1/12 1/6, 0 0 1",
        "1 1 1 1 1 0, 0 1 -1 2 -2 0, 0 1 1 4 4 0, 0 1 -1 8 -8 1",
    )
)
"""Transforms of F(4, 3): output @ ((kernel @ g) * (input @ d)) filters 6 samples d with 3 taps g into 4."""


@tf.function(jit_compile=True)  # compiled, a transform is one pass over memory
def _tiles(inputs: tf.Tensor) -> tf.Tensor:
    """Transformed 6 x 6 tiles of [n, height, width, channels]: [6, 6, n, height / 4, width / 4, channels]."""

    def combine(samples: list[tf.Tensor]) -> list[tf.Tensor]:
        return [sum(float(w) * x for w, x in zip(row, samples, strict=True) if w) for row in WINOGRAD_INPUT]

    height, width = inputs.shape[1:3]
    x = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = tf.stack(combine([x[:, i : i + height - 3 : 4] for i in range(6)]))
    return tf.stack(combine([x[:, :, :, i : i + width - 3 : 4] for i in range(6)]), axis=1)


def _winograd_kernel(taps: int, stride: int) -> np.ndarray:
    """Kernel transform along one axis, [6, phases, taps], of a kernel that reaches one input to either side."""
    placed = np.zeros((3, stride, taps))
    crop = _same_padding(taps, stride)
    for phase in range(stride):
        for offset in (-1, 0, 1):  # output stride * q + phase meets input q + offset
            if 0 <= (tap := phase + crop - stride * offset) < taps:
                placed[offset + 1, phase, tap] = 1
    return np.einsum("io,opt->ipt", WINOGRAD_KERNEL, placed)


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation over the last axis, trained by TensorFlow's fused operation.

    That takes fewer passes over memory. It is slow where channels do not fill vectors, so they are filled up.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Normalise by the batch's statistics when training, else by the moving ones."""
        if not training:
            return super().call(inputs, training=False)
        channels = inputs.shape[-1]
        filling = -channels % 16

        def fill(x: tf.Tensor) -> tf.Tensor:
            x = tf.convert_to_tensor(x)
            zeros = tf.zeros((*tf.unstack(tf.shape(x)[:-1]), filling), x.dtype)
            return tf.concat([x, zeros], axis=-1) if filling else x

        x, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=fill(tf.reshape(inputs, [-1, 1, 1, channels])),
            scale=fill(tf.cast(self.gamma, tf.float32)),
            offset=fill(tf.cast(self.beta, tf.float32)),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
        )
        count = tf.cast(tf.size(inputs) // channels, variance.dtype)
        variance *= (count - 1) / count  # the operation's is unbiased, Keras' is not
        for variable, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            old = tf.convert_to_tensor(variable)
            variable.assign(old + (new[:channels] - old) * (1 - self.momentum))
        if filling:
            x, _ = tf.split(x, [channels, filling], axis=-1)
        return tf.reshape(x, tf.shape(inputs))


def _times(left: Any, right: Any) -> tf.Tensor:
    """Matrix product of a constant array and a tensor, or the other way round, in the tensor's precision."""
    dtype = left.dtype if isinstance(right, np.ndarray) else right.dtype
    return tf.matmul(tf.cast(left, dtype), tf.cast(right, dtype))


def _same_padding(taps: int, stride: int) -> int:
    """Samples that a SAME transposed convolution drops at its output's start."""
    return max(taps - stride, 0) // 2


def _reach(taps: int, stride: int) -> tuple[int, int]:
    """How many inputs before and after its own an output depends on."""
    crop = _same_padding(taps, stride)
    return max((taps - 1 - crop) // stride, 0), (stride - 1 + crop) // stride


def _fourier(positions: np.ndarray, points: int) -> np.ndarray:
    """Matrix from samples at these positions to their spectrum, [2 * lines, positions]: real, imaginary, real, ..."""
    angles = 2 * np.pi / points * (np.arange(points // 2 + 1)[:, None] * positions % points)
    return np.stack([np.cos(angles), -np.sin(angles)], axis=1).reshape(-1, len(positions)).astype(np.float32)


def _inverse_fourier(samples: int, points: int) -> np.ndarray:
    """Matrix from a spectrum as above to its signal's first samples, [2 * lines, samples]."""
    weights = np.full(points // 2 + 1, 2 / points)
    weights[0] = 1 / points
    if points % 2 == 0:
        weights[-1] = 1 / points
    return (np.repeat(weights, 2)[:, None] * _fourier(np.arange(samples), points)).astype(np.float32)


def _add_in_time(shares: tf.Tensor, stride: int) -> tf.Tensor:
    """Add up what each input frame gives to the output frames, as a SAME transposed convolution does.

    [lines, n, frames, taps, values] to [lines, n, frames, stride, values]: tap t of frame q belongs to the output
    frame ``stride * q + t - crop``.
    """
    frames, taps = shares.shape[2:4]
    crop = _same_padding(taps, stride)
    before, after = _reach(taps, stride)
    phases: list[Any] = [0] * stride
    for tap, share in enumerate(tf.unstack(shares, axis=3)):
        shift, phase = divmod(tap - crop, stride)
        phases[phase] += tf.pad(share, [[0, 0], [0, 0], [after + shift, before - shift], [0, 0]])
    return tf.stack(phases, axis=3)[:, :, after : after + frames]


def has_bfloat16() -> bool:
    """Whether this machine has instructions for bfloat16, which add up in single precision."""
    if tf.config.list_physical_devices("GPU"):
        return True
    processor = Path("/proc/cpuinfo")  # Linux
    return processor.exists() and bool(re.search(r"\b(amx_|avx512_)?bf16\b", processor.read_text()))


def in_precision(precision: Precision, build: Callable[[], keras.Model]) -> keras.Model:
    """Build a model whose layers compute in a precision.

    Parameters
    ----------
    precision : {'single', 'mixed'}
    build : callable
        Makes the model, such as a :func:`build_network` with its arguments.

    Returns
    -------
    keras.Model
        With the inputs of that model, and its outputs in single precision.
    """
    if precision == "single":
        return build()
    if not has_bfloat16():
        warnings.warn(
            "precision='mixed' on a processor without bfloat16 is slower and less exact: take 'single'", stacklevel=2
        )
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy(before)
    outputs = keras.layers.Activation("linear", dtype="float32", name="single")(model.output)
    return keras.Model(model.input, outputs, name=model.name)


def build_network(
    kind: Kind,
    geometry: Geometry,
    *,
    layers: Literal["auto", "plain", "fast"] = "auto",
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
    layers : {'auto', 'plain', 'fast'}
        Keras' own layers, or the same functions by faster algorithms (Winograd's, spectral, fused); ``auto`` takes
        the fast ones on CPUs and the plain ones where TensorFlow sees a GPU. Weights fit either.
    equalised : bool
        Store the kernels of the two last transposed convolutions divided by ``1 / sqrt(fan-in)``, that of the last
        one moreover by the size of the coefficients of a signal of unit power, and start it near zero. For training
        from scratch; :func:`ctxe_lib.weights.save_encoder` stores effective kernels.
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
    if layers not in ("auto", "plain", "fast"):
        raise ValueError(f"layers={layers!r} must be 'auto', 'plain' or 'fast'")
    if layers == "auto":
        layers = "plain" if tf.config.list_physical_devices("GPU") else "fast"
    fast = layers == "fast"
    seeds = iter(np.random.SeedSequence(seed).generate_state(16))

    def initializer(scale: float = 1.0) -> keras.initializers.Initializer:
        return keras.initializers.VarianceScaling(scale, "fan_avg", "uniform", seed=int(next(seeds)))

    def activate(x: Any, name: str) -> Any:
        norm = FusedBatchNormalization if fast else keras.layers.BatchNormalization
        return norm(name=f"{name}_norm")(keras.layers.ReLU(name=f"{name}_relu")(x))

    def deconv(x: Any, name: str, filters: int, kernel: tuple[int, int], stride: int, *, last: bool = False) -> Any:
        long = kernel[1] > 16
        gain = 1.0
        init = initializer()
        if long and equalised:
            gain = 1 / math.sqrt(kernel[0] * kernel[1] * x.shape[-1] / stride**2)
            if last:
                gain *= float(np.linalg.norm(window(geometry)))
            init = keras.initializers.RandomNormal(0.0, 0.001 if last else math.sqrt(2.0), seed=int(next(seeds)))
        layer = EqualisedDeconv2D
        if fast and long:
            layer = SpectralDeconv2D
        elif fast and _reach(kernel[0], stride) == _reach(kernel[1], stride) == (1, 1):
            layer = WinogradDeconv2D
        return layer(filters, kernel, stride, "same", kernel_initializer=init, gain=gain, name=name)(x)

    x = inputs = keras.Input((geometry.context_frames, geometry.bins, 4), name="contexts")
    for i, (filters, kernel, strides) in enumerate(ENCODER, 1):
        conv = SpectralConv2D if fast and i == 1 else keras.layers.Conv2D
        x = conv(filters, kernel, strides, "same", kernel_initializer=initializer(), name=f"conv{i}")(x)
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
