"""Audio files to mono samples at one rate, and to 16 bits.

Every data set passes through the same three steps: :func:`decode` (any format libsndfile reads, channels
averaged, resampled), :func:`to_int16`, and :func:`trim`, which finds where the music begins and ends.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

__all__ = ["FULL_SCALE", "SUFFIXES", "check", "decode", "mix", "to_int16", "trim"]

FULL_SCALE = 32768
"""Integer value of an amplitude of 1 in 16-bit audio."""

_FORMATS = "aif aifc aiff au caf flac mp3 oga ogg opus rf64 snd voc w64 wav wave"
SUFFIXES = frozenset(f".{suffix}" for suffix in _FORMATS.split())
"""Endings of file names that are taken for audio."""

_BLOCK = 1 << 20  # frames decoded at a time: a long file is never held with all its channels
_WHOLE = 0.99  # share of the announced samples that makes a file whole: some headers of good files promise too much


def check(samples: np.ndarray) -> None:
    """Refuse what no measure or method can work with.

    Parameters
    ----------
    samples : np.ndarray [shape=(..., n)]
        Audio.

    Raises
    ------
    ValueError
        If there is no sample, or one that is NaN or infinite.
    """
    if not samples.size:
        raise ValueError("holds no samples")
    bad = samples.size - np.count_nonzero(np.isfinite(samples))
    if bad:
        raise ValueError(f"{bad} of {samples.size} samples are NaN or infinite")


def decode(source: Path | str | bytes, sample_rate: int = 16_000) -> np.ndarray:
    """Read an audio file as mono at the given rate.

    Parameters
    ----------
    source : Path, str or bytes
        A file's path, or its content.
    sample_rate : int
        Rate of the result in Hz.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float32]
        The mean of the channels, resampled by soxr at its high quality; full scale is 1, and lossy formats may
        exceed it.

    Raises
    ------
    ValueError
        If the file is no audio that libsndfile reads, has less than 99 % of the samples that its header announces, is
        empty, or holds NaN or infinite samples.
    """
    blocks: list[np.ndarray] = []
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            # Not file.blocks(): where a file is truncated, that pads the last block with whatever is in memory.
            while len(part := file.read(_BLOCK, dtype="float32", always_2d=True)):
                blocks.append(part.mean(axis=1))
            rate, announced = file.samplerate, file.frames
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(f"is no readable audio ({error})") from error
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    check(samples)
    if len(samples) < _WHOLE * announced:
        raise ValueError(f"ends after {len(samples)} of {announced} announced samples")
    return samples if rate == sample_rate else soxr.resample(samples, rate, sample_rate, quality="HQ")


def mix(stems: list[np.ndarray]) -> np.ndarray:
    """Add the stems of a song, and scale the sum to full scale where it exceeds it.

    Parameters
    ----------
    stems : list of np.ndarray [shape=(n_i,)]
        Audio at one rate; shorter stems are taken as silent after their end.

    Returns
    -------
    np.ndarray [shape=(max n_i,), dtype=float32]
    """
    total = np.zeros(max(map(len, stems)), np.float32)
    for stem in stems:
        total[: len(stem)] += stem
    return total / max(1.0, float(np.abs(total).max(initial=0)))


def to_int16(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Round audio to 16 bits.

    Parameters
    ----------
    samples : np.ndarray [shape=(n,)]
        Audio with full scale 1.

    Returns
    -------
    pcm : np.ndarray [shape=(n,), dtype=int16]
        The nearest integers.
    clipped : int
        Samples beyond full scale, which were set to it. A lone +1 rounds to the largest integer and does not
        count.

    Raises
    ------
    ValueError
        If there is no sample, or one that is NaN or infinite.
    """
    check(samples)
    scaled = np.rint(samples * FULL_SCALE)
    clipped = int(np.count_nonzero(np.abs(scaled) > FULL_SCALE))
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype("<i2"), clipped


def trim(pcm: np.ndarray, sample_rate: int = 16_000, threshold: float = 0.01) -> slice:
    """Where the music begins and ends.

    The root mean square is taken in frames of 64 ms every 32 ms, centred, with silence beyond both ends; what lies
    from the centre of the first frame above the threshold to that of the last is kept, as the authors' released
    code does (1024 samples every 512 at 16 kHz).

    Parameters
    ----------
    pcm : np.ndarray [shape=(n,), dtype=int16]
        Audio.
    sample_rate : int
        In Hz.
    threshold : float
        Root mean square that counts as sound; full scale is 1.

    Returns
    -------
    slice
        Into `pcm`; empty where no frame is above the threshold.
    """
    hop = round(0.032 * sample_rate)
    # Sums of squares are whole numbers below 2^63: the result is exact and the same on every machine.
    energy = np.concatenate([[0], np.cumsum(pcm.astype(np.int64) ** 2)])
    centres = np.arange(0, len(pcm) + 1, hop)
    frames = energy[np.minimum(centres + hop, len(pcm))] - energy[np.maximum(centres - hop, 0)]
    loud = centres[frames > 2 * hop * (threshold * FULL_SCALE) ** 2]
    return slice(int(loud[0]), int(loud[-1])) if len(loud) else slice(0, 0)
