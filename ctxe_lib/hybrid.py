"""The hybrid: a small network that corrects what linear prediction extrapolates (beyond the paper).

The outlook of the paper asks for a mixture of experts. Here the experts are the two one-sided extrapolations and
Janssen's interpolation, with models of several orders, and a compact network decides per time-frequency coefficient
how to mix and mend them. Its output, for the frames that touch the gap, is added to Janssen's estimate ``J``::

    D = w1 (F - J) + w2 (B - J) + sum_k v_k (J_k - J) + (w3 |F - B| + w4 G) J / |J|
    G = I |F - B| / (|F - B| + I / 10)

with the complex ``w``, ``v`` from the network, ``F``, ``B`` the extrapolations forwards and backwards, ``J_k``
Janssen's estimates of other orders, and ``I`` the magnitudes interpolated between the surrounding frames. Noise has
those, while what linear prediction says of it dies away; ``G`` is ``I`` there, and ten times their difference where
the extrapolations agree. Where all experts agree, every term vanishes: a gap that linear prediction closes perfectly
stays closed, whatever the network says. The loss is the score itself, the mean of SNR_TD and SNR_MS of the synthesised
audio, so there is no phase recovery behind it.

The network sees no level and, unless told to (``phases``), no phase: its input are log magnitudes relative to the
context's level, of experts, differences of experts and surrounding frames. Frames are its channels, and it is a
residual network of convolutions along frequency.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from ctxe_lib import interpolation, janssen, lpc, tf_stft
from ctxe_lib.encoder import context_level
from ctxe_lib.geometry import Geometry
from ctxe_lib.losses import energy
from ctxe_lib.parallel import map_batches

__all__ = ["ExampleCache", "Hybrid", "Options", "build_hybrid"]

CAUTION = 0.1
"""Disagreement of the extrapolations, relative to the interpolated magnitude, at which half of the latter counts."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a hybrid is made of; each of the ablations changes one of them.

    Parameters
    ----------
    width : int
        Channels of the residual blocks.
    blocks : int
        How many of them; their convolutions have dilations 1, 2, 4, 1, ...
    bins : int
        How many bins are corrected, from the lowest on; above them the estimate stays as it is.
    surroundings : int
        Frames on either side of the gap that the network sees; 0 for none.
    phases : bool
        Whether it sees the experts' phases against that of the estimate that is corrected, too.
    start : {'janssen', 'lpc', 'interpolation'}
        The estimate that is corrected. With ``interpolation``, that of magnitudes, linear prediction has no part in
        anything: there are no experts (so `orders` must be empty), and the correction is ``w I J / |J|``.
    orders : tuple of int
        Orders of further estimates by Janssen's method, each an expert of its own; see
        :func:`ctxe_lib.janssen.inpaint`.
    interpolated : bool
        Whether magnitudes interpolated between the surrounding frames are among what the network can add.
    iterations : int
        Iterations of Griffin and Lim's algorithm behind the correction, which keep its magnitudes and bring the
        phases of overlapping frames together; the training sees through them.
    balance : float
        Weight of SNR_MS in the loss; SNR_TD has the rest.
    """

    width: int = 128
    blocks: int = 6
    bins: int = 257
    surroundings: int = 8
    phases: bool = False
    start: Literal["janssen", "lpc", "interpolation"] = "janssen"
    orders: tuple[int, ...] = (256, 512, 1000)
    interpolated: bool = True
    iterations: int = 4
    balance: float = 0.75

    def __post_init__(self) -> None:
        for name, least in {"width": 1, "blocks": 0, "bins": 1, "surroundings": 0, "iterations": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be an integer >= {least}")
        if self.start not in ("janssen", "lpc", "interpolation"):
            raise ValueError(f"start={self.start!r} must be 'janssen', 'lpc' or 'interpolation'")
        if self.start == "interpolation" and (self.orders or not self.interpolated):
            raise ValueError(
                f"start='interpolation' needs orders=() and interpolated=True, got {self.orders}, {self.interpolated}"
            )
        if self.interpolated and not self.surroundings:
            raise ValueError(f"interpolated={self.interpolated} needs surroundings > 0")
        if not all(isinstance(order, int) and order > 0 for order in self.orders):
            raise ValueError(f"orders={self.orders} must be integers > 0")
        object.__setattr__(self, "orders", tuple(self.orders))  # a list where they were read from JSON
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance={self.balance} must lie in [0, 1]")

    @property
    def experts(self) -> int:
        """How many estimates the network weighs beside the one that is corrected."""
        return 0 if self.start == "interpolation" else 2 + len(self.orders)

    @property
    def terms(self) -> int:
        """How many terms the correction has: one per expert, their disagreement, the interpolated magnitudes."""
        return self.experts + (self.experts > 0) + self.interpolated


def build_hybrid(options: Options, geometry: Geometry, seed: int | None = None) -> keras.Model:
    """Build the network that weighs and mends the experts.

    Parameters
    ----------
    options : Options
    geometry : Geometry
    seed : int or None
        Of the initial weights.

    Returns
    -------
    keras.Model
        Features [n, bins, features] to real and imaginary parts of the weights, [n, bins, 2 * terms * gap_frames];
        zero before training, so that the hybrid begins as the estimate it corrects.

    Raises
    ------
    ValueError
        If `options` asks for more bins or surroundings than the geometry has.
    """
    frames = geometry.gap_frames
    most = (geometry.length - geometry.window) // geometry.hop + 1 - frames
    if options.bins > geometry.bins or 2 * options.surroundings > most:
        raise ValueError(
            f"bins={options.bins} must be {geometry.bins} at most, and surroundings={options.surroundings} {most // 2}"
        )
    seeds = iter(np.random.SeedSequence(seed).generate_state(options.blocks + 1))

    def conv(x: Any, name: str, taps: int, dilation: int = 1) -> Any:
        init = keras.initializers.GlorotUniform(seed=int(next(seeds)))
        return keras.layers.Conv1D(
            options.width, taps, padding="same", dilation_rate=dilation, kernel_initializer=init, name=name
        )(x)

    seen = (4 if options.phases else 2) * options.experts + 1 + (options.experts > 0)
    features = 2 * options.surroundings + seen * frames
    x = inputs = keras.Input((options.bins, features), name="features")
    x = conv(x, "into", 3)
    for i in range(options.blocks):
        y = keras.layers.LayerNormalization(name=f"block{i}_norm")(x)
        y = keras.activations.gelu(conv(y, f"block{i}_conv", 3, (1, 2, 4)[i % 3]), approximate=True)
        y = keras.layers.Dense(options.width, kernel_initializer="zeros", name=f"block{i}_mix")(y)
        x = keras.layers.Add(name=f"block{i}")([x, y])
    x = keras.layers.LayerNormalization(name="out_norm")(x)
    outputs = keras.layers.Dense(2 * options.terms * frames, kernel_initializer="zeros", name="out")(x)
    return keras.Model(inputs, outputs, name="hybrid")


class Hybrid:
    """Network and experts together.

    Parameters
    ----------
    model : keras.Model
        From :func:`build_hybrid`, with the same options and geometry.
    geometry : Geometry
    options : Options
    """

    kind = "hybrid"

    def __init__(self, model: keras.Model, geometry: Geometry, options: Options) -> None:
        self.model, self.geometry, self.options = model, geometry, options
        signature = [tf.TensorSpec((None, self.example_length), tf.float32)]
        self._corrected = tf.function(lambda x: self.correct(x), input_signature=signature)
        self._errors = tf.function(lambda x: self.errors(x), input_signature=signature)

    @property
    def example_length(self) -> int:
        """Values of an example: a segment's samples, then the experts' estimates of its gap."""
        return self.geometry.length + (self.options.experts + 1) * self.geometry.gap

    def card(self) -> dict[str, Any]:
        """What a card needs to build the network again."""
        return {"options": asdict(self.options)}

    def examples(self, segments: np.ndarray) -> np.ndarray:
        """Segments with the experts' estimates behind them, the one that is corrected last.

        Parameters
        ----------
        segments : np.ndarray [shape=(n, length)]
            The experts do not read the gap.

        Returns
        -------
        np.ndarray [shape=(n, example_length), float32]
        """
        if not self.options.experts:
            gap = interpolation.inpaint(segments, self.geometry)
            return np.concatenate([segments, gap], axis=1).astype(np.float32)
        gap, sides = lpc.inpaint(segments, self.geometry, return_info=True)
        if self.options.start == "janssen":
            gap = janssen.inpaint(segments, self.geometry)
        further = [janssen.inpaint(segments, self.geometry, order=order) for order in self.options.orders]
        return np.concatenate([segments, sides.forward, sides.backward, *further, gap], axis=1).astype(np.float32)

    def correct(self, examples: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Apply the network.

        Parameters
        ----------
        examples : tf.Tensor [shape=(n, example_length), float32]
            The content of the gap is not read.
        training : bool

        Returns
        -------
        tf.Tensor [shape=(n, gap)]
            Audio of the gaps.
        """
        geometry, options = self.geometry, self.options
        level = context_level(examples[:, : geometry.length], geometry)
        examples = examples / level
        before, after = examples[:, : geometry.context], examples[:, geometry.context + geometry.gap : geometry.length]
        estimates = tf.reshape(examples[:, geometry.length :], [-1, options.experts + 1, geometry.gap])
        gaps = tf.unstack(estimates, axis=1)
        reach = geometry.padding + options.surroundings * geometry.hop
        spectra = [
            tf_stft.coefficients(tf.concat([before[:, -reach:], gap, after[:, :reach]], axis=1), geometry)
            for gap in gaps
        ]
        inside = slice(options.surroundings, options.surroundings + geometry.gap_frames)
        around = tf.concat([spectra[-1][:, : inside.start], spectra[-1][:, inside.stop :]], axis=1)
        *experts, base = (s[:, inside] for s in spectra)
        apart = [experts[0] - experts[1]] if experts else []
        differences = [expert - base for expert in experts]
        features = [0.3 * tf.math.log(_magnitude(s) + 1e-4) for s in (around, *experts, base, *apart, *differences)]
        if options.phases:
            for expert in experts:
                cosine = expert * tf.math.conj(base)
                cosine /= _complex(_magnitude(cosine) + 1e-6)
                features += [tf.math.real(cosine), tf.math.imag(cosine)]
        stacked = tf.transpose(tf.concat(features, axis=1)[..., : options.bins], [0, 2, 1])
        weights = tf.transpose(self.model(stacked, training=training), [0, 2, 1])
        weights = tf.pad(weights, [[0, 0], [0, 0], [0, geometry.bins - options.bins]])
        weights = tf.reshape(weights, [-1, options.terms, 2, geometry.gap_frames, geometry.bins])
        amounts = [_magnitude(difference) for difference in apart]
        if options.interpolated:
            magnitudes = _magnitude(spectra[-1])
            mean = tf_stft.interpolated(magnitudes[:, inside.start - 1], magnitudes[:, inside.stop], geometry)
            amounts.append(mean * amounts[0] / (amounts[0] + CAUTION * mean) if experts else mean)
        terms = [*differences, *(_complex(amount / _magnitude(base)) * base for amount in amounts)]
        change = tf.reduce_sum(tf.complex(weights[:, :, 0], weights[:, :, 1]) * tf.stack(terms, axis=1), axis=1)
        filled = gaps[-1] + tf_stft.gap_signal(change, geometry)
        wanted = _magnitude(base + change)
        for _ in range(options.iterations):
            around = [before[:, -geometry.padding :], filled, after[:, : geometry.padding]]
            current = tf_stft.coefficients(tf.concat(around, axis=1), geometry)
            filled = tf_stft.gap_signal(current * _complex(wanted / _magnitude(current)), geometry)
        return filled * level

    def errors(self, examples: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Energies of the synthesised gap's error, relative to the original's, [n, example_length] -> [n], [n].

        The first is that of SNR_TD, the second that of SNR_MS.
        """
        geometry = self.geometry
        original, filled = examples[:, geometry.gap_samples], self.correct(examples, training)
        scale = tf.math.rsqrt(tf.maximum(tf.reduce_mean(tf.square(original), axis=1, keepdims=True), 1e-14))
        original, filled = original * scale, filled * scale
        first = geometry.scored_frames.start * geometry.hop - geometry.window // 2 - geometry.context
        last = (geometry.scored_frames.stop - 1) * geometry.hop + geometry.window // 2 - geometry.context
        target, output = (_magnitude(tf_stft.coefficients(x[:, first:last], geometry)) for x in (original, filled))
        return (
            energy(filled - original) / tf.maximum(energy(original), 1e-7),
            energy(target - output) / tf.maximum(energy(target), 1e-7),
        )

    def losses(self, examples: tf.Tensor, loss: str = "snr", training: bool = False) -> tf.Tensor:
        """Loss per example: the weighted mean of the logarithms of both errors, [n, example_length] -> [n].

        That is minus the mean of SNR_TD and SNR_MS in units of 10 dB. Errors below -60 dB count no more, lest the
        gradient be about gaps that are perfect already.
        """
        if loss != "snr":
            raise ValueError(f"loss={loss!r}: a hybrid is trained on the scores themselves, loss='snr'")
        return self._loss(*self.errors(examples, training))

    def _loss(self, time: tf.Tensor, magnitude: tf.Tensor) -> tf.Tensor:
        time, magnitude = (tf.math.log(x + 1e-6) / math.log(10) for x in (time, magnitude))
        return self.options.balance * magnitude + (1 - self.options.balance) * time

    def scores(self, examples: np.ndarray, loss: str = "snr") -> dict[str, np.ndarray]:
        """Scores per example for a validation: loss, snr (that is SNR_MS, dB) and snr_td (dB), [n] each."""
        time, magnitude = self._errors(tf.constant(examples))
        return {
            "loss": self._loss(time, magnitude).numpy(),
            "snr": -10 * np.log10(magnitude.numpy() + 1e-12),
            "snr_td": -10 * np.log10(time.numpy() + 1e-12),
        }

    def predict(self, segments: np.ndarray, batch: int = 32) -> np.ndarray:
        """Fill gaps.

        Parameters
        ----------
        segments : np.ndarray [shape=(n, length)]
            The content of the gap is not read.
        batch : int
            Segments per pass through the network.

        Returns
        -------
        np.ndarray [shape=(n, gap), float64]
        """
        blanked = np.array(segments, dtype=np.float64)
        blanked[:, self.geometry.gap_samples] = 0
        gaps = [np.zeros((0, self.geometry.gap))]
        for i in range(0, len(blanked), batch):
            gaps.append(self._corrected(tf.constant(self.examples(blanked[i : i + batch]))).numpy())
        return np.concatenate(gaps).astype(np.float64)


def _magnitude(spectra: tf.Tensor) -> tf.Tensor:
    """Absolute values with a gradient that is finite at zero."""
    return tf.sqrt(tf.square(tf.math.real(spectra)) + tf.square(tf.math.imag(spectra)) + 1e-12)


def _complex(values: tf.Tensor) -> tf.Tensor:
    """Real values as complex ones; a cast would warn of its gradient, which is the real part."""
    return tf.complex(values, tf.zeros_like(values))


class ExampleCache:
    """Examples of a pool of segments: each is worked out when it is first asked for, and kept on disk.

    Parameters
    ----------
    folder : Path
        Where the estimates are kept; what lies there for the same data and experts is taken up.
    corpus : Corpus
    hybrid : Hybrid
    starts : np.ndarray [shape=(pool,), dtype=int64]
        Positions of the pool's segments, ascending.

    Raises
    ------
    OSError
        If the disk has no room for the estimates of the whole pool.
    """

    def __init__(self, folder: Path, corpus: Any, hybrid: Hybrid, starts: np.ndarray) -> None:
        self.corpus, self.hybrid, self.starts = corpus, hybrid, starts
        experts = hybrid.options.start, *hybrid.options.orders
        key = hashlib.sha256(
            f"{corpus.fingerprint} {hybrid.geometry.to_dict()} {experts}".encode() + starts.tobytes()
        ).hexdigest()[:16]
        width = hybrid.example_length - hybrid.geometry.length
        self._estimates = _reserve(folder / f"{key}.f32", np.float32, (len(starts), width))
        self._ready = _reserve(folder / f"{key}.u8", np.uint8, (len(starts),))

    def read(self, starts: np.ndarray) -> np.ndarray:
        """Examples [n, example_length] of segments of the pool."""
        segments = self.corpus.read(starts)
        rows = np.searchsorted(self.starts, starts)
        new = np.flatnonzero(self._ready[rows] == 0)
        if len(new):
            found = map_batches(self.hybrid.examples, segments[new], n_jobs=-1, batch=8, progress=False)
            self._estimates[rows[new]] = found[:, segments.shape[1] :]
            self._ready[rows[new]] = 1
        return np.concatenate([segments, self._estimates[rows]], axis=1)


def _reserve(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """Array in a file, whose room on disk is taken beforehand: a full disk must not strike a mapped page."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size != size:
        free = shutil.disk_usage(path.parent).free
        if free < 1.1 * size:
            raise OSError(
                f"{path} takes {size / 1e6:.0f} MB, {path.parent} has {free / 1e6:.0f} MB left: make room, or take a "
                "smaller pool"
            )
        with path.open("wb") as file:
            file.truncate(size)
            os.posix_fallocate(file.fileno(), 0, size)
    return np.memmap(path, dtype, "r+", shape=shape)
