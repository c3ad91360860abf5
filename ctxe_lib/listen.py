"""Audio players that live inside a page: no file beside it, no script, no request."""

from __future__ import annotations

import base64
import html
import io
import wave
from collections.abc import Mapping

import numpy as np
from IPython.display import HTML

from ctxe_lib.audio import to_int16

__all__ = ["player", "players", "wav"]


def wav(audio: np.ndarray, sample_rate: int) -> bytes:
    """A mono WAV file of 16-bit samples.

    Parameters
    ----------
    audio : np.ndarray [shape=(samples,)]
        Full scale 1; what lies beyond is clipped.
    sample_rate : int
        In Hz.

    Returns
    -------
    bytes
        The file's content.

    Raises
    ------
    ValueError
        If there is no sample, more than one channel, or a value that is not finite.
    """
    if np.ndim(audio) != 1:
        raise ValueError(f"audio of shape {np.shape(audio)} must be one channel")
    samples, _ = to_int16(np.asarray(audio, dtype=np.float64))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def player(audio: np.ndarray, sample_rate: int, label: str) -> str:
    """One labelled player as HTML.

    Parameters
    ----------
    audio : np.ndarray [shape=(samples,)]
        Full scale 1.
    sample_rate : int
        In Hz.
    label : str
        What is heard; shown, and read out by screen readers.

    Returns
    -------
    str
        A ``figure`` element that holds the audio itself.
    """
    source = "data:audio/wav;base64," + base64.b64encode(wav(audio, sample_rate)).decode("ascii")
    text = html.escape(label)
    return (
        f'<figure class="player"><figcaption>{text}</figcaption>'
        f'<audio controls preload="metadata" aria-label="{text}" src="{source}"></audio></figure>'
    )


def players(sounds: Mapping[str, np.ndarray], sample_rate: int) -> HTML:
    """Players side by side, as the result of a notebook's cell.

    Parameters
    ----------
    sounds : mapping of str to np.ndarray [shape=(samples,)]
        Audio by label, full scale 1.
    sample_rate : int
        In Hz.

    Returns
    -------
    IPython.display.HTML
    """
    figures = "".join(player(audio, sample_rate, label) for label, audio in sounds.items())
    return HTML(f'<div class="players">{figures}</div>')
