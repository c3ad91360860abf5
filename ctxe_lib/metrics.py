"""Scores of inpainted gaps (section 3.3 of the paper).

Every score is in dB per segment; averages are means of dB values over segments. A segment whose reference is
silent has no score: it is NaN, and whoever averages must exclude and count it.

- SNR_TD: equation (3) on the samples of the gap.
- SNR_MS: equation (3) on magnitude spectrograms, in the frames that lie wholly inside the gap, of the original and
  of the restored *signal analysed again*: a magnitude that no signal has scores nothing by itself.
- Table 3 instead compares the network's raw output with the original's magnitudes on all frames that touch the gap.
"""

from __future__ import annotations

import numpy as np

from ctxe_lib.geometry import Geometry
from ctxe_lib.stft import stft

__all__ = ["restore", "snr", "snr_ms", "snr_raw", "snr_td", "spectral_convergence", "validate"]


def validate(reference: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check that reference and estimate can be compared; return them as float64.

    Raises
    ------
    ValueError
        If the shapes differ, or a value is complex or not finite.
    """
    if np.iscomplexobj(reference) or np.iscomplexobj(estimate):
        raise ValueError("reference and estimate must be real: take np.abs of coefficients first")
    reference, estimate = np.asarray(reference, dtype=np.float64), np.asarray(estimate, dtype=np.float64)
    if reference.shape != estimate.shape or not reference.ndim:
        raise ValueError(f"reference has shape {reference.shape}, estimate {estimate.shape}: they must be equal")
    for name, values in (("reference", reference), ("estimate", estimate)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds values that are not finite: repair or leave out such segments first")
    return reference, estimate


def snr(reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratio in dB, equation (3), over the last axis.

    Parameters
    ----------
    reference, estimate : np.ndarray [shape=(..., values)], real

    Returns
    -------
    np.ndarray [shape=(...)]
        NaN where the reference is silent, inf where both are equal.
    """
    reference, estimate = validate(reference, estimate)
    signal = np.sum(reference**2, axis=-1)
    noise = np.sum((reference - estimate) ** 2, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(signal > 0, 10 * np.log10(signal / noise), np.nan)


def snr_td(segments: np.ndarray, gaps: np.ndarray, geometry: Geometry) -> np.ndarray:
    """SNR_TD: SNR of the gap's samples.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        Originals, gap included.
    gaps : np.ndarray [shape=(n, gap)]
        What a method put into the gaps.
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(n,)]
        In dB.
    """
    return snr(np.asarray(segments)[..., geometry.gap_samples], gaps)


def restore(segments: np.ndarray, gaps: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Segments with something else in their gaps.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
    gaps : np.ndarray [shape=(n, gap)]
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(n, length), dtype=float64]
    """
    whole = np.array(segments, dtype=np.float64)
    whole[..., geometry.gap_samples] = gaps
    return whole


def _scored_magnitudes(segments: np.ndarray, gaps: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    segments = np.asarray(segments, dtype=np.float64)
    validate(segments[..., geometry.gap_samples], gaps)  # one gap must not be spread over several segments
    restored = restore(segments, gaps, geometry)
    first, last = geometry.scored_frames.start, geometry.scored_frames.stop - 1
    # Only these samples reach the scored frames; the piece is analysed alone, and its wrapped edge frames dropped.
    half = geometry.window // 2
    piece = slice(first * geometry.hop - half, last * geometry.hop + half)
    frames = slice(half // geometry.hop, half // geometry.hop + last - first + 1)
    original, restored = (
        np.abs(stft(signal[..., piece], geometry)[..., frames, :]) for signal in validate(segments, restored)
    )
    return original.reshape(*original.shape[:-2], -1), restored.reshape(*restored.shape[:-2], -1)


def snr_ms(segments: np.ndarray, gaps: np.ndarray, geometry: Geometry) -> np.ndarray:
    """SNR_MS: SNR of the magnitude spectrogram of the restored signal inside the gap.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        Originals, gap included.
    gaps : np.ndarray [shape=(n, gap)]
        What a method put into the gaps.
    geometry : Geometry
        Its ``scored_frames`` are compared: the five central ones with the defaults.

    Returns
    -------
    np.ndarray [shape=(n,)]
        In dB.
    """
    return snr(*_scored_magnitudes(segments, gaps, geometry))


def spectral_convergence(segments: np.ndarray, gaps: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Spectral convergence ``|| |S| - |S'| || / || |S| ||`` in the scored frames (Sturmel & Daudet 2011).

    SNR_MS is -20 log10 of it.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
    gaps : np.ndarray [shape=(n, gap)]
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(n,)]
        0 for a perfect restoration.
    """
    return 10 ** (-snr_ms(segments, gaps, geometry) / 20)


def snr_raw(target: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Table 3's score: SNR of a network's raw output, all frames that touch the gap, no synthesis.

    Parameters
    ----------
    target, output : np.ndarray [shape=(n, gap_frames, bins)]
        Coefficients or magnitudes; magnitudes are compared.

    Returns
    -------
    np.ndarray [shape=(n,)]
        In dB.
    """
    target, output = np.abs(target), np.abs(output)
    return snr(target.reshape(len(target), -1), output.reshape(len(output), -1))
