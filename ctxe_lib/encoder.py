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

__all__ = [
    "ContextEncoder",
    "Level",
    "Output",
    "Phases",
    "check_output",
    "context_level",
    "continued_phases",
    "interpolated_magnitudes",
]

Level = Literal["none", "context"]
Phases = Literal["frame", "continued"]
Output = Literal["whole", "correction"]

VOCODER_STEPS = 3
"""Steps from frame to frame, next to the gap, that give the phase advance of a bin."""

NEIGHBOURS = 5
"""Bins that tell together how far the magnitudes on either side of the gap lie apart; one alone may agree by chance."""


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


def continued_phases(inputs: tf.Tensor, geometry: Geometry) -> tuple[tf.Tensor, tf.Tensor]:
    """Phases that the contexts have where each bin keeps its frequency, as a phase vocoder continues them.

    The advance from frame to frame is taken over the frames next to the gap that lie within the context
    (J. L. Flanagan and R. M. Golden, "Phase vocoder", Bell System Technical Journal 45, 1966). Within the gap the
    continuations of both sides are cross-faded linearly, weighted by the magnitude that each side ends with.

    Parameters
    ----------
    inputs : tf.Tensor [shape=(n, context_frames, bins, 4), float32]
        From :func:`ctxe_lib.tf_stft.network_input`.
    geometry : Geometry

    Returns
    -------
    contexts : tf.Tensor [shape=(n, 2, context_frames, bins), complex64]
        Of modulus 1; the context before the gap, then the one after it.
    gap : tf.Tensor [shape=(n, gap_frames, bins), complex64]
        Of modulus 1, or 0 where the two sides cancel each other.
    """
    frames, gap = geometry.context_frames, geometry.gap_frames
    last = geometry.stripped_frames - 1  # the last frame free of the gap, counted towards it
    steps = min(VOCODER_STEPS, last)
    fade = (tf.range(gap, 0, -1, tf.float32) / (gap + 1))[:, None]
    sides, blended = [], []
    for side in range(2):
        towards = slice(None, None, 1 - 2 * side)  # the gap: after it, time runs backwards
        spectra = tf.complex(inputs[..., 2 * side], inputs[..., 2 * side + 1])[:, towards]
        near, before = spectra[:, last - steps + 1 : last + 1], spectra[:, last - steps : last]
        advance = tf.math.angle(tf.reduce_sum(near * tf.math.conj(before), axis=1, keepdims=True))
        edge = spectra[:, last : last + 1]
        phase = tf.math.angle(edge) + advance * (tf.range(frames + gap, dtype=tf.float32)[:, None] - last)
        turns = tf.complex(tf.cos(phase), tf.sin(phase))
        sides.append(turns[:, :frames][:, towards])
        weight = tf.cast(fade * (tf.abs(edge) + 1e-9), tf.complex64)
        blended.append((weight * turns[:, last + 1 : last + 1 + gap])[:, towards])
    blend = blended[0] + blended[1]
    return tf.stack(sides, axis=1), tf.math.divide_no_nan(blend, tf.cast(tf.abs(blend), tf.complex64))


def interpolated_magnitudes(inputs: tf.Tensor, geometry: Geometry) -> tuple[tf.Tensor, tf.Tensor]:
    """Magnitudes of the gap, linear in time between the contexts', as :func:`ctxe_lib.interpolation.magnitudes`.

    Parameters
    ----------
    inputs : tf.Tensor [shape=(n, context_frames, bins, 4), float32]
        From :func:`ctxe_lib.tf_stft.network_input`; its phases do not matter.
    geometry : Geometry

    Returns
    -------
    magnitudes : tf.Tensor [shape=(n, gap_frames, bins), float32]
    apart : tf.Tensor [shape=(n, 1, bins), float32]
        How far the magnitudes on either side lie apart, the mean over :data:`NEIGHBOURS` bins about each: the cheapest
        estimate of the interpolation's error.
    """
    last = geometry.stripped_frames - 1  # the last frame free of the gap, counted towards it
    before, after = tf.norm(inputs[:, last, :, :2], axis=-1), tf.norm(inputs[:, -1 - last, :, 2:], axis=-1)
    apart = tf.nn.avg_pool1d(tf.abs(after - before)[..., None], NEIGHBOURS, 1, "SAME")
    return tf_stft.interpolated(before, after, geometry), tf.transpose(apart, [0, 2, 1])


def check_output(output: str, kind: str) -> None:
    """Refuse a correction of what a network does not give.

    Parameters
    ----------
    output : {'whole', 'correction'}
    kind : {'magnitude', 'complex', 'hybrid'}

    Raises
    ------
    ValueError
        If `output` is ``correction`` for another network than a magnitude network.
    """
    if output == "correction" and kind != "magnitude":
        raise ValueError(f"output='correction' of a {kind} network: only magnitudes are interpolated, take 'whole'")


class ContextEncoder:
    """Network, geometry and the rules for level, phases and output together.

    Parameters
    ----------
    model : keras.Model
        From :func:`ctxe_lib.networks.build_network`.
    geometry : Geometry
    kind : {'magnitude', 'complex'}
    level : {'none', 'context'}
        ``none``: as in the paper. ``context``: segments are divided by their :func:`context_level` before the network
        and its output is multiplied by it.
    phases : {'frame', 'continued'}
        ``frame``: coefficients as the transform gives them, as in the paper. ``continued``: each is turned back by
        its :func:`continued_phases`, and the complex network's output is turned forth by those of the gap. A
        stationary sinusoid is then the same positive number in all frames, wherever its phase begins.
    output : {'whole', 'correction'}
        ``whole``: the network's output is the gap's, as in the paper. ``correction``, of magnitude networks: it is
        added to the :func:`interpolated_magnitudes`, in units of how far they lie apart on either side. Where both
        sides agree there is little to correct, and much to spoil.

    Raises
    ------
    ValueError
        See :func:`check_output`.
    """

    def __init__(
        self,
        model: keras.Model,
        geometry: Geometry,
        kind: Kind,
        level: Level,
        phases: Phases,
        output: Output = "whole",
    ) -> None:
        check_output(output, kind)
        self.model, self.geometry, self.kind = model, geometry, kind
        self.level, self.phases, self.output = level, phases, output
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
        return {"level": self.level, "phases": self.phases, "output": self.output}

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

    def inputs(self, segments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """What the network reads of normalised segments, [n, context_frames, bins, 4], and what its output is turned
        by, [n, gap_frames, bins]."""
        inputs = tf_stft.network_input(segments, self.geometry)
        if self.phases == "frame":
            return inputs, None
        contexts, gap = continued_phases(inputs, self.geometry)
        channels = []
        for side in range(2):
            turned = tf.complex(inputs[..., 2 * side], inputs[..., 2 * side + 1]) * tf.math.conj(contexts[:, side])
            channels += [tf.math.real(turned), tf.math.imag(turned)]
        return tf.stack(channels, axis=-1), gap

    def _output(self, segments: tf.Tensor, training: bool) -> tf.Tensor:
        """Coefficients of the gap of normalised segments, [n, length] -> [n, gap_frames, bins, channels]."""
        inputs, turns = self.inputs(segments)
        output = self.model(inputs, training=training)
        if self.output == "correction":
            magnitudes, apart = interpolated_magnitudes(inputs, self.geometry)
            output = magnitudes[..., None] + apart[..., None] * output
        if turns is None or self.kind == "magnitude":
            return output
        turned = tf.complex(output[..., 0], output[..., 1]) * turns
        return tf.stack([tf.math.real(turned), tf.math.imag(turned)], axis=-1)

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
