"""A trained context encoder as one object: segments in, time-frequency coefficients of the gap out."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from ctxe_lib import tf_stft
from ctxe_lib.geometry import Geometry
from ctxe_lib.losses import LOSSES
from ctxe_lib.metrics import snr_raw
from ctxe_lib.networks import Kind

__all__ = ["ContextEncoder", "Level", "bin_levels", "context_level"]

Level = Literal["none", "context", "bins"]


def context_level(segments: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Root mean square of both contexts together; 1 where they are silent.

    Parameters
    ----------
    segments : tf.Tensor [shape=(n, length), float32]
        The content of the gap is not read.
    geometry : Geometry

    Returns
    -------
    tf.Tensor [shape=(n, 1), float32]
    """
    before, after = segments[:, : geometry.context], segments[:, geometry.context + geometry.gap :]
    power = tf.reduce_mean(tf.square(before) + tf.square(after), axis=1, keepdims=True) / 2
    return tf.where(power > 0, tf.sqrt(power), 1.0)


def bin_levels(inputs: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Mean magnitude of each frequency bin next to the gap.

    Taken over the frames that lie within the contexts and begin or end within a gap's length of the gap.

    Parameters
    ----------
    inputs : tf.Tensor [shape=(n, context_frames, bins, 4), float32]
        From :func:`ctxe_lib.tf_stft.network_input`.
    geometry : Geometry

    Returns
    -------
    tf.Tensor [shape=(n, 1, bins, 1), float32]
        At least a thousandth of its mean over the bins; 1 where both contexts are silent.
    """
    padded = geometry.padding // geometry.hop  # frames that reach into the zeros of the gap
    near = padded + max((geometry.gap - geometry.window) // geometry.hop, 0) + 1
    before = tf.norm(inputs[:, -near:-padded, :, :2], axis=-1)
    after = tf.norm(inputs[:, padded:near, :, 2:], axis=-1)
    levels = tf.reduce_mean(before + after, axis=1, keepdims=True) / 2
    mean = tf.reduce_mean(levels, axis=2, keepdims=True)
    return tf.where(mean > 0, tf.maximum(levels, mean / 1000), 1.0)[..., None]


class ContextEncoder:
    """Network, geometry and level rule together.

    Parameters
    ----------
    model : keras.Model
        From :func:`ctxe_lib.networks.build_network`.
    geometry : Geometry
    kind : {'magnitude', 'complex'}
    level : {'none', 'context', 'bins'}
        ``none``: as in the paper. ``context``: segments are divided by their :func:`context_level` before the network
        and its output is multiplied by it. ``bins``: so are, moreover, the coefficients of each frequency bin by
        their :func:`bin_levels`, which gives the network the contexts' mean spectrum to start from.
    """

    def __init__(self, model: keras.Model, geometry: Geometry, kind: Kind, level: Level) -> None:
        self.model, self.geometry, self.kind, self.level = model, geometry, kind, level
        self._predict = tf.function(
            self._infer, input_signature=[tf.TensorSpec((None, geometry.length), tf.float32)], reduce_retracing=True
        )

    def normalise(self, segments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Divide segments by their level, [n, length] -> ([n, length], level [n, 1])."""
        if self.level == "none":
            return segments, tf.ones((tf.shape(segments)[0], 1))
        level = context_level(segments, self.geometry)
        return segments / level, level

    def target(self, segments: tf.Tensor) -> tf.Tensor:
        """What the network should give, [n, length] -> [n, gap_frames, bins, channels] (``S_g``)."""
        coefficients = tf_stft.gap_coefficients(segments, self.geometry)
        if self.kind == "magnitude":
            return tf.abs(coefficients)[..., None]
        return tf.stack([tf.math.real(coefficients), tf.math.imag(coefficients)], axis=-1)

    def card(self) -> dict[str, Any]:
        """What a card needs to build the network again."""
        return {"level": self.level}

    @property
    def example_length(self) -> int:
        """Values of an example: a segment's samples."""
        return self.geometry.length

    def examples(self, segments: np.ndarray) -> np.ndarray:
        """Examples to train on: the segments [n, length] as they are."""
        return segments

    def _target_and_output(self, examples: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        segments, _ = self.normalise(examples)
        return self.target(segments), self._output(segments, training)

    def _output(self, segments: tf.Tensor, training: bool) -> tf.Tensor:
        """Coefficients of the gap of normalised segments, [n, length] -> [n, gap_frames, bins, channels]."""
        inputs = tf_stft.network_input(segments, self.geometry)
        if self.level != "bins":
            return self.model(inputs, training=training)
        levels = bin_levels(inputs, self.geometry)
        return self.model(inputs / levels, training=training) * levels

    def losses(self, examples: tf.Tensor, loss: str = "paper", training: bool = False) -> tf.Tensor:
        """Loss per example without regularisation, [n, length] -> [n]; `loss` is a key of ``losses.LOSSES``."""
        return LOSSES[loss](*self._target_and_output(examples, training))

    def scores(self, examples: np.ndarray, loss: str = "paper") -> dict[str, np.ndarray]:
        """Scores per example for a validation: loss, and snr (dB) of the raw output as in Table 3, [n] each."""
        target, output = self._target_and_output(tf.constant(examples), training=False)
        magnitudes = (np.linalg.norm(np.asarray(x, np.float64), axis=-1) for x in (target, output))
        return {"loss": LOSSES[loss](target, output).numpy(), "snr": snr_raw(*magnitudes)}

    def _infer(self, segments: tf.Tensor) -> tf.Tensor:
        segments, level = self.normalise(segments)
        return self._output(segments, training=False) * level[:, :, None, None]

    def predict(self, segments: np.ndarray, batch: int = 32) -> np.ndarray:
        """Predict the gap's coefficients ``S_g'``.

        Parameters
        ----------
        segments : np.ndarray [shape=(n, length)]
            The content of the gap is not read.
        batch : int
            Segments per pass through the network.

        Returns
        -------
        np.ndarray [shape=(n, gap_frames, bins)]
            float64 magnitudes, clipped at 0 (the last layer is linear), or complex128 coefficients.
        """
        blanked = np.array(segments, dtype=np.float32)
        blanked[:, self.geometry.gap_samples] = 0
        outputs = [self._predict(tf.constant(blanked[i : i + batch])).numpy() for i in range(0, len(blanked), batch)]
        if not outputs:
            outputs = [np.zeros((0, self.geometry.gap_frames, self.geometry.bins, 2 - (self.kind == "magnitude")))]
        output = np.concatenate(outputs).astype(np.float64)
        if self.kind == "magnitude":
            return np.maximum(output[..., 0], 0)
        return output[..., 0] + 1j * output[..., 1]
