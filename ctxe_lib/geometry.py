"""The geometry of a segment: one parameter object for every step of the way.

A segment is ``context`` samples, a gap of ``gap`` samples, and ``context`` samples again (section 3.1 of the
paper). Its short-time Fourier transform is circular in time: frame ``n`` is centred at sample ``n * hop``, so
that a segment of 5120 samples with a hop of 128 has 40 frames. Everything else follows from these numbers:
which frames touch the gap, which the networks see, which the scores compare.

Conventions used throughout the library
---------------------------------------
- Audio: float64 in [-1, 1] or int16 on disk, shape [..., samples].
- Time-frequency coefficients: shape [..., frames, bins], phase relative to the frame's centre.
- A batch of segments: [n, length]; the content of the gap is never read by an inpainting method.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

__all__ = ["Geometry"]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Sizes of a segment and of its short-time Fourier transform.

    Parameters
    ----------
    sample_rate : int
        Samples per second, in Hz.
    context : int
        Samples on each side of the gap (``L_c`` in the paper).
    gap : int
        Samples in the gap (``L_g``).
    window : int
        Length of the analysis window in samples, also the number of frequency channels (``M``).
    hop : int
        Samples between neighbouring frames (``a``).

    Raises
    ------
    ValueError
        If the sizes do not fit together; the message names the values and the consequence.

    Notes
    -----
    Defaults are those of section 3.1 of the paper: 16 kHz, 128 ms of context on each side of a gap of 64 ms,
    a window of 32 ms and a hop of 8 ms.
    """

    sample_rate: int = 16_000
    context: int = 2048
    gap: int = 1024
    window: int = 512
    hop: int = 128

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() <= 0:
                raise ValueError(f"{field.name}={value!r} must be an integer > 0")
            object.__setattr__(self, field.name, value.__index__())
        if self.window % (2 * self.hop):
            raise ValueError(
                f"window={self.window} must be an even multiple of hop={self.hop}: otherwise the frames that touch "
                "the gap do not lie symmetrically about it, and the Hann window's shifts do not add up"
            )
        for name in ("context", "gap"):
            if getattr(self, name) % self.hop:
                raise ValueError(
                    f"{name}={getattr(self, name)} must be a multiple of hop={self.hop}: "
                    "the gap has to begin and end at a frame's centre"
                )
        if self.context < self.window:
            raise ValueError(
                f"context={self.context} must be at least window={self.window}: "
                "a shorter context holds no frame that is free of the gap"
            )

    # -- the segment, in samples ------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """Samples in a segment (``L``)."""
        return 2 * self.context + self.gap

    @property
    def gap_samples(self) -> slice:
        """Samples of the gap within a segment."""
        return slice(self.context, self.context + self.gap)

    @property
    def padding(self) -> int:
        """Zeros put between a context and the gap before its STFT: ``M - a`` samples."""
        return self.window - self.hop

    @property
    def gap_seconds(self) -> float:
        """Duration of the gap in seconds."""
        return self.gap / self.sample_rate

    @property
    def seconds(self) -> float:
        """Duration of a segment in seconds."""
        return self.length / self.sample_rate

    # -- the plane, in frames and bins ------------------------------------------------------------------------

    @property
    def bins(self) -> int:
        """Frequency bins from 0 Hz to half the sample rate (``M / 2 + 1``)."""
        return self.window // 2 + 1

    @property
    def frames(self) -> int:
        """Frames of the circular STFT of a whole segment."""
        return self.length // self.hop

    @property
    def context_frames(self) -> int:
        """Frames of each context, zero padding included (``N_c``)."""
        return self.context // self.hop

    @property
    def gap_frames(self) -> int:
        """Frames that touch the gap: the networks' output, ``(L_g + M) / a - 1``."""
        return (self.gap + self.window) // self.hop - 1

    @property
    def stripped_frames(self) -> int:
        """Frames of each context that are free of the gap: ``N_c - M / a + 1``."""
        return self.context_frames - self.window // self.hop + 1

    @property
    def before_frames(self) -> slice:
        """Frames of the circular STFT that the context before the gap fills (``S_b``)."""
        start = self.window // (2 * self.hop)
        return slice(start, start + self.context_frames)

    @property
    def after_frames(self) -> slice:
        """Frames of the circular STFT that the context after the gap fills (``S_a``)."""
        stop = self.frames - self.window // (2 * self.hop) + 1
        return slice(stop - self.context_frames, stop)

    @property
    def touched_frames(self) -> slice:
        """Frames of the circular STFT that touch the gap (0-based 15 to 25 with the defaults)."""
        start = (self.context - self.window // 2) // self.hop + 1
        return slice(start, start + self.gap_frames)

    @property
    def scored_frames(self) -> slice:
        """Frames that SNR_MS compares: those wholly inside the gap (0-based 18 to 22 with the defaults).

        A gap shorter than the window holds no whole frame; then the frames centred nearest to its middle are
        taken: one, or the two that are equally near.
        """
        half = self.window // 2
        if self.gap >= self.window:
            return slice((self.context + half) // self.hop, (self.context + self.gap - half) // self.hop + 1)
        twice_middle = (2 * self.context + self.gap) // self.hop
        return slice(twice_middle // 2, (twice_middle + 1) // 2 + 1)

    # -- as data ----------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, int]:
        """The five sizes as a plain dictionary, for JSON records."""
        return asdict(self)
