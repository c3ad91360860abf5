"""Plain interpolation of magnitudes across the gap: what any method that claims to know music has to beat."""

from __future__ import annotations

import numpy as np

from ctxe_lib import lpc, phase, stft
from ctxe_lib.geometry import Geometry

__all__ = ["inpaint", "magnitudes"]


def magnitudes(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Magnitudes of the gap, linear in time between the nearest frames that are free of it.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        The content of the gap is not read.
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(n, gap_frames, bins)]

    Raises
    ------
    ValueError
        If the segments do not fit the geometry, are not real, or a context holds values that are not finite.
    """
    lpc.contexts(segments, geometry)  # refuses what is not fit
    whole = np.abs(stft.merge(segments, np.zeros((geometry.gap_frames, geometry.bins)), geometry))
    touched = geometry.touched_frames
    weight = np.arange(1, geometry.gap_frames + 1)[:, None] / (geometry.gap_frames + 1)
    return whole[:, [touched.start - 1]] * (1 - weight) + whole[:, [touched.stop]] * weight


def inpaint(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Fill gaps by :func:`magnitudes`, with the phases that :func:`ctxe_lib.phase.recover` finds for them.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        The content of the gap is not read.
    geometry : Geometry

    Returns
    -------
    np.ndarray [shape=(n, gap), float64]

    Raises
    ------
    ValueError
        As :func:`magnitudes` does.
    """
    return phase.reconstruct(segments, magnitudes(segments, geometry), geometry)
