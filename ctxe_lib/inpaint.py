"""One way to inpaint: every method takes a batch of segments and returns the audio of the gaps.

A method is an entry of :data:`METHODS`: its name, how tables and plots show it, and a function that prepares it and
returns the call. Evaluation, notebooks and widgets go through :func:`prepare` and treat all methods alike; adding
one means adding an entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ctxe_lib import interpolation, janssen, lpc, phase, sparse, stft, weights
from ctxe_lib.geometry import Geometry

__all__ = [
    "METHODS",
    "Inpainter",
    "Method",
    "available_methods",
    "inpaint",
    "network",
    "prepare",
]

Inpainter = Callable[[np.ndarray, Geometry], np.ndarray]
"""From segments [n, length] to gap audio [n, gap]."""


@dataclass(frozen=True)
class Method:
    """An inpainting method.

    Attributes
    ----------
    name : str
        Key in tables and on the command line.
    label : str
        How tables and plots name it.
    colour : str
        Its colour throughout the book (from the colour-blind safe palette of Okabe and Ito).
    make : callable
        From what the networks were trained on (``music`` or ``instruments``) to the :data:`Inpainter`.
    network : bool
        Whether it needs trained weights, named ``<trained on>-<name>``.
    shared : bool
        Whether one network serves whatever the corpus; its weights are named ``<name>``.
    """

    name: str
    label: str
    colour: str
    make: Callable[[str], Inpainter]
    network: bool = False
    shared: bool = False

    def weights_name(self, trained_on: str) -> str | None:
        """Name of the trained weights, None where the method needs none."""
        if not self.network:
            return None
        return self.name if self.shared else f"{trained_on}-{self.name}"


@lru_cache(maxsize=4)
def _encoder(name: str) -> weights.ContextEncoder | weights.Hybrid:
    return weights.load_encoder(name)[0]


def _network(name: str) -> Inpainter:
    encoder = _encoder(name)

    def run(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
        if geometry != encoder.geometry:
            raise ValueError(f"network {name} was trained for {encoder.geometry}, not for {geometry}")
        predicted = encoder.predict(segments)
        if encoder.kind == "hybrid":
            return predicted
        if encoder.kind == "magnitude":
            return phase.reconstruct(segments, predicted, geometry)
        return stft.gap_audio(stft.merge(segments, predicted, geometry), geometry)

    return run


_ALL = (
    Method("interpolation", "Interpolation", "#56B4E9", lambda _: interpolation.inpaint),
    Method("lpc", "LPC", "#E69F00", lambda _: lpc.inpaint),
    Method("janssen", "Janssen", "#009E73", lambda _: janssen.inpaint),
    Method("sparse", "A-SPAIN", "#D55E00", lambda _: sparse.inpaint),
    Method("magnitude", "Magnitude network", "#0072B2", lambda on: _network(f"{on}-magnitude"), network=True),
    Method("complex", "Complex network", "#CC79A7", lambda on: _network(f"{on}-complex"), network=True),
    Method("hybrid", "Hybrid", "#8E63CE", lambda _: _network("hybrid"), network=True, shared=True),
)

METHODS: dict[str, Method] = {method.name: method for method in _ALL}
"""Every method by name, in the order that tables show them."""


def available_methods(trained_on: str) -> list[str]:
    """Names of the methods that can run now: those without a network, and networks whose weights are there."""
    there = set(weights.available())
    return [name for name, method in METHODS.items() if not method.network or method.weights_name(trained_on) in there]


def prepare(name: str, trained_on: str = "music") -> Inpainter:
    """Get a method ready: a function from segments and geometry to gap audio.

    Parameters
    ----------
    name : str
        Key of :data:`METHODS`.
    trained_on : {'music', 'instruments'}
        Which weights a network takes.

    Returns
    -------
    callable
        ``(segments [n, length], geometry) -> gap audio [n, gap]``; float64.

    Raises
    ------
    ValueError
        If there is no such method.
    FileNotFoundError
        If its network has not been trained.
    """
    if name not in METHODS:
        raise ValueError(f"method {name!r} must be one of {', '.join(METHODS)}")
    return _guarded(METHODS[name].make(trained_on))


def network(name: str) -> Inpainter:
    """Get any trained network ready, by the name of its weights; otherwise like :func:`prepare`.

    Raises
    ------
    FileNotFoundError
        If there are no such weights.
    """
    return _guarded(_network(name))


def _guarded(run: Inpainter) -> Inpainter:
    """A call that checks its segments, and shows the method none of what was in the gap."""

    def checked(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
        return run(_checked(segments, geometry), geometry)

    return checked


def _checked(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Segments as float64 with an empty gap, so that no method can see what was there."""
    if np.asarray(segments).dtype.kind not in "iuf":
        raise ValueError(f"segments have dtype {np.asarray(segments).dtype}: real numbers are wanted")
    blanked = np.array(segments, dtype=np.float64)
    if blanked.ndim != 2 or blanked.shape[1] != geometry.length:
        raise ValueError(
            f"segments have shape {blanked.shape}, expected (n, {geometry.length}) for context={geometry.context} "
            f"and gap={geometry.gap}"
        )
    blanked[:, geometry.gap_samples] = 0
    bad = np.flatnonzero(~np.isfinite(blanked).all(axis=1))
    if len(bad):
        raise ValueError(f"the context of segment {bad[0]} holds values that are not finite ({len(bad)} such segments)")
    return blanked


def inpaint(name: str, segments: np.ndarray, geometry: Geometry, *, trained_on: str = "music") -> np.ndarray:
    """Inpaint a batch of segments; :func:`prepare` and call in one.

    Parameters
    ----------
    name : str
        Key of :data:`METHODS`.
    segments : np.ndarray [shape=(n, length)]
        Audio, full scale 1; the content of the gap is not read.
    geometry : Geometry
    trained_on : {'music', 'instruments'}

    Returns
    -------
    np.ndarray [shape=(n, gap), float64]
    """
    return prepare(name, trained_on)(segments, geometry)
