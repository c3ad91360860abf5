"""Repair gaps in a recording of any sample rate and number of channels.

Every gap is filled at the recording's own rate by Janssen's interpolation, with contexts of 128 ms and an order that
spans the same time as at 16 kHz. Where the hybrid applies, its correction, which is made at 16 kHz and lies below
4 kHz, is resampled and added. What is outside of the gaps is returned bit by bit as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import soundfile
import soxr

from ctxe_lib import janssen, lpc
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import available_methods, prepare

__all__ = ["HYBRID_MS", "find_gaps", "repair", "repair_file"]

Method = Literal["hybrid", "janssen", "lpc"]

HYBRID_MS = (56.0, 64.0)
"""Durations of gaps that the hybrid corrects: it has learnt gaps of 64 ms."""

CONTEXT = 0.128
"""Audio that a method looks at on either side of a gap, in seconds."""

SHORTEST_CONTEXT = 0.01
"""Least audio that one side of a gap must have, in seconds."""

LONGEST_MS = 200.0
"""Longest gap that is filled: nothing that an extrapolation says so far from its context is worth hearing."""

_STEP = (
    4  # the sizes of a geometry are multiples of its hop: gaps are widened by 3 samples at most while they are filled
)


def find_gaps(
    audio: np.ndarray, sample_rate: int, *, shortest_ms: float = 2.0, longest_ms: float = 100.0
) -> list[tuple[int, int]]:
    """Find dropouts: stretches in which every channel is exactly zero, or holds values that are not finite.

    Parameters
    ----------
    audio : np.ndarray [shape=(samples,) or (samples, channels)]
    sample_rate : int
        In Hz.
    shortest_ms, longest_ms : float
        Durations that count as a dropout, in ms. A shorter run of zeros may be the sound itself, a longer one a pause.

    Returns
    -------
    list of (int, int)
        First sample of each gap, and the one behind its last. Silence at the beginning or end is none.
    """
    channels = np.asarray(audio).reshape(len(audio), -1)
    missing = ~np.isfinite(channels).all(axis=1) | (channels == 0).all(axis=1)
    edges = np.flatnonzero(np.diff(missing.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    return [
        (int(start), int(stop))
        for start, stop in edges
        if start > 0 and stop < len(audio) and shortest_ms <= 1e3 * (stop - start) / sample_rate <= longest_ms
    ]


def repair(
    audio: np.ndarray,
    sample_rate: int,
    gaps: Sequence[tuple[int, int]],
    *,
    method: Method = "hybrid",
) -> tuple[np.ndarray, pd.DataFrame]:
    """Fill gaps.

    Parameters
    ----------
    audio : np.ndarray [shape=(samples,) or (samples, channels)]
        The content of the gaps is not read.
    sample_rate : int
        In Hz.
    gaps : sequence of (int, int)
        First sample of each gap, and the one behind its last; gaps may not touch each other.
    method : {'hybrid', 'janssen', 'lpc'}
        The best method to use. Where it does not apply, the next one does: a hybrid corrects gaps of
        :data:`HYBRID_MS`, Janssen's interpolation needs 128 ms of context on either side.

    Returns
    -------
    repaired : np.ndarray
        Of the shape of `audio`, float64.
    report : pandas.DataFrame
        One row per gap: start (s), duration (ms), method, before and after (context that was used, ms).

    Raises
    ------
    ValueError
        If a gap lies outside the audio, touches another, is too long or has hardly any context, or if a
        context holds values that are not finite.
    """
    if method not in ("hybrid", "janssen", "lpc"):
        raise ValueError(f"method={method!r} must be 'hybrid', 'janssen' or 'lpc'")
    repaired = np.array(audio, dtype=np.float64).reshape(len(audio), -1)
    rows, ordered = [], sorted((int(a), int(b)) for a, b in gaps)
    for i, (start, stop) in enumerate(ordered):
        following = ordered[i + 1][0] if i + 1 < len(ordered) else len(repaired)
        where = f"the gap of {1e3 * (stop - start) / sample_rate:g} ms at {start / sample_rate:.3f} s"
        if not 0 <= start < stop <= len(repaired):
            raise ValueError(f"{where} must lie within the {len(repaired) / sample_rate:.3f} s of audio")
        if stop >= following and i + 1 < len(ordered):
            raise ValueError(f"{where} touches the next one at {following / sample_rate:.3f} s: give them as one")
        if 1e3 * (stop - start) / sample_rate > LONGEST_MS:
            raise ValueError(f"{where} is longer than {LONGEST_MS:g} ms: no method here can say what was there")
        context = _multiple(CONTEXT * sample_rate)
        sides = repaired[max(start - context, 0) : start].T, repaired[stop : min(stop + context + _STEP, following)].T
        if max(side.shape[1] for side in sides) < SHORTEST_CONTEXT * sample_rate:
            raise ValueError(f"{where} has less than {1e3 * SHORTEST_CONTEXT:g} ms of audio on either side")
        for side, name in zip(sides, ("before", "after"), strict=True):
            if not np.isfinite(side).all():
                raise ValueError(f"the context {name} {where} holds values that are not finite: make them gaps as well")
        repaired[start:stop], used = _fill(*sides, stop - start, sample_rate, method)
        if used == "janssen" and method == "hybrid":
            correction = _correction(repaired[:following], sample_rate, start, stop)
            if correction is not None:
                repaired[start:stop] += correction
                used = "hybrid"
        used_ms = (1e3 * min(side.shape[1], context) / sample_rate for side in sides)
        row = {"start": start / sample_rate, "duration": 1e3 * (stop - start) / sample_rate, "method": used}
        rows.append(row | dict(zip(("before", "after"), used_ms, strict=True)))
    columns = ["start", "duration", "method", "before", "after"]
    return repaired.reshape(np.shape(audio)), pd.DataFrame(rows, columns=columns)


def repair_file(
    source: Path, output: Path, gaps: Sequence[tuple[int, int]] = (), *, find: bool = False, method: Method = "hybrid"
) -> pd.DataFrame:
    """Repair a recording in a file.

    Parameters
    ----------
    source, output : Path
        Any format that libsndfile reads and writes. Samples outside of the gaps are those of the source, where the
        format keeps them; the resolution is the source's if the format is.
    gaps : sequence of (int, int)
        See :func:`repair`.
    find : bool
        Whether to add what :func:`find_gaps` finds.
    method : {'hybrid', 'janssen', 'lpc'}
        See :func:`repair`.

    Returns
    -------
    pandas.DataFrame
        See :func:`repair`; beside it, clipped: samples of the fill that were beyond full scale.

    Raises
    ------
    ValueError
        If there is no gap, the output is the source, or a gap can not be filled; nothing is written then.
    """
    if output.resolve() == source.resolve():
        raise ValueError(f"output {output} would replace the recording: name another file")
    with soundfile.SoundFile(source) as file:
        rate, subtype = file.samplerate, file.subtype
        whole = subtype.startswith("PCM")
        # Whole numbers pass through unchanged as such only: written from floats they may be off by one.
        samples = file.read(dtype="int32" if whole else "float64", always_2d=True)
    scale = 2.0**31 if whole else 1.0
    audio = samples / scale
    places = list(gaps) + (find_gaps(audio, rate) if find else [])
    if not places:
        raise ValueError(f"no gaps were {'found' if find else 'given'}: name them, or look for dropouts")
    repaired, report = repair(audio, rate, places, method=method)
    clipped = []
    for start, stop in sorted(places):
        filled = repaired[start:stop] * scale
        limits = (-scale, scale - 1) if whole else (-np.inf, np.inf)
        clipped.append(int(np.count_nonzero((filled < limits[0]) | (filled > limits[1]))))
        samples[start:stop] = np.clip(np.rint(filled) if whole else filled, *limits)
    partial = output.with_name(f".{output.stem}.part{output.suffix}")
    try:
        kept = subtype if output.suffix.lower() == source.suffix.lower() else None
        soundfile.write(partial, samples, rate, subtype=kept)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return report.assign(clipped=clipped)


def _fill(before: np.ndarray, after: np.ndarray, gap: int, sample_rate: int, method: str) -> tuple[np.ndarray, str]:
    """Content [gap, channels] between contexts [channels, samples], and the method that it is from."""
    context, wide = _multiple(CONTEXT * sample_rate), _multiple(gap + _STEP - 1)
    if method == "lpc" or before.shape[1] < context or after.shape[1] < wide - gap + context:
        after = after[:, :context]
        order = min(round(1000 * sample_rate / 16_000), max(before.shape[1], after.shape[1]) - 1)
        return lpc.bridge(before, after, gap, order=order)[0].T, "lpc"
    geometry = Geometry(sample_rate=sample_rate, context=context, gap=wide, window=2 * _STEP, hop=_STEP)
    after = after[:, wide - gap : wide - gap + context]
    segments = np.concatenate([before, np.zeros((len(before), wide)), after], axis=1)
    return janssen.inpaint(segments, geometry, order=round(janssen.ORDER * sample_rate / 16_000))[:, :gap].T, "janssen"


def _correction(audio: np.ndarray, sample_rate: int, start: int, stop: int) -> np.ndarray | None:
    """What the hybrid adds to Janssen's estimate in the gap, [gap, channels]; None where it does not apply."""
    geometry = Geometry()
    if not HYBRID_MS[0] <= 1e3 * (stop - start) / sample_rate <= HYBRID_MS[1] or "hybrid" not in available_methods(
        "music"
    ):
        return None
    ratio, margin = geometry.sample_rate / sample_rate, round(0.03 * sample_rate)
    first = start - round(geometry.context / ratio) - margin
    last = stop + round(geometry.context / ratio) + margin
    if first < 0 or last > len(audio):
        return None
    resampled = soxr.resample(audio[first:last], sample_rate, geometry.sample_rate) if ratio != 1 else audio[first:last]
    # the gap of the network's length about the middle of the true one
    begin = round(((start + stop) / 2 - first) * ratio - geometry.gap / 2) - geometry.context
    segments = resampled[begin : begin + geometry.length].T
    change = np.zeros_like(resampled)
    inside = slice(begin + geometry.context, begin + geometry.context + geometry.gap)
    change[inside] = (prepare("hybrid")(segments, geometry) - janssen.inpaint(segments, geometry)).T
    if ratio != 1:
        change = soxr.resample(change, geometry.sample_rate, sample_rate)
    return change[start - first : stop - first]


def _multiple(samples: float) -> int:
    """The multiple of the step that is nearest from below."""
    return int(samples) // _STEP * _STEP
