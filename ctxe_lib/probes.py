"""What the paper probes its networks with beside test segments: pure tones, sweeps, and cases found in the scores.

Figures 4 and 5 show SNR_MS of pure tones against their frequency, Fig. 7 five simultaneous sweeps, Figs. 6 and 8 test
segments. Probes are made here, scored for every network and training set that there is beside methods without one, and
kept in one table with its record: what has been scored is not scored again while signals, weights and code stay.

Tones
-----
The paper's tones lie between 20 Hz and 8 kHz on a logarithmic scale, with amplitudes of 0.1 to 1 and phases of 0 to
pi; the released code has an amplitude of 0.1 and phases of 0 to 2 pi. Frequencies here are equally spaced on that scale
about A4 = 440 Hz: 0.5, 1.5, 2.5, ... semitones apart, they lie on notes and half-way between notes in turn. Each has an
amplitude and a phase of its own, spread evenly over their ranges in random order.

Sweeps
------
The paper's text has linear sweeps, its caption an exponential one. Both cover 500 Hz in the 320 ms of a segment.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.signal
from numpy.typing import ArrayLike

from ctxe_lib import tables, weights
from ctxe_lib.evaluation import score
from ctxe_lib.geometry import Geometry
from ctxe_lib.inpaint import METHODS, prepare
from ctxe_lib.metrics import restore, snr
from ctxe_lib.provenance import link, total_seconds
from ctxe_lib.records import environment, read_table, write_table
from ctxe_lib.statistics import cluster_bootstrap
from ctxe_lib.stft import stft

__all__ = [
    "READINGS",
    "SWEEPS",
    "Case",
    "Contender",
    "Mean",
    "Reading",
    "band_scores",
    "cents",
    "contenders",
    "find_case",
    "fluctuation",
    "frequencies",
    "note_contrast",
    "origin",
    "probe",
    "running_average",
    "sweep_frequencies",
    "sweep_scores",
    "sweeps",
    "tone_probes",
    "tone_scores",
    "tones",
    "training",
]

A4 = 440.0
LOWEST, HIGHEST = 20.0, 8000.0
SWEEPS = ("linear", "exponential")
"""Readings of Fig. 7: the text's and the caption's."""
PROBED = ("interpolation", "lpc", "magnitude", "complex", "hybrid")
"""Methods that are probed, where they can run."""
BESIDE = 200.0
"""What lies further than this from every sweep, in Hz, lies between them: three times half a window's main lobe."""


class Reading(NamedTuple):
    """How tones are drawn.

    Attributes
    ----------
    amplitude : tuple of float
        Lowest and highest amplitude.
    phase : float
        Phases are from 0 to this, in radians.
    """

    amplitude: tuple[float, float]
    phase: float


READINGS = {"paper": Reading((0.1, 1.0), np.pi), "released": Reading((0.1, 0.1), 2 * np.pi)}
"""The paper's tones, and those of the released code."""


class Contender(NamedTuple):
    """A method, and what its network was trained on: nothing where there is none, or one for all sounds."""

    method: str
    trained_on: str = ""

    @property
    def label(self) -> str:
        """How tables and plots name it."""
        return METHODS[self.method].label + (f", {self.trained_on}" if self.trained_on else "")

    @property
    def weights_name(self) -> str | None:
        """Name of its weights, if any."""
        return METHODS[self.method].weights_name(self.trained_on)

    def fill(self, segments: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Gap audio [n, gap] of segments [n, length]."""
        return prepare(self.method, self.trained_on)(segments, geometry)


def contenders(methods: Sequence[str] = PROBED, kinds: Sequence[str] = tables.KINDS) -> list[Contender]:
    """Every one of these methods that can run now, with each training set of its network.

    Parameters
    ----------
    methods : sequence of str
        Keys of :data:`ctxe_lib.inpaint.METHODS`.
    kinds : sequence of str
        Training sets to consider.
    """
    there = weights.available()
    return [
        contender
        for name in methods
        for kind in (kinds if METHODS[name].network and not METHODS[name].shared else ("",))
        if (contender := Contender(name, kind)).weights_name is None or contender.weights_name in there
    ]


# -- tones --------------------------------------------------------------------------------------------------------


def frequencies(semitones: float) -> np.ndarray:
    """Frequencies of tones from 20 Hz up to, not including, 8 kHz: there, a tone may vanish between the samples.

    Parameters
    ----------
    semitones : float
        From each tone to the next.

    Returns
    -------
    np.ndarray [shape=(n,)]
        In Hz, ascending; one of them is 440 Hz.

    Raises
    ------
    ValueError
        If the distance is not positive.
    """
    if not semitones > 0:
        raise ValueError(f"semitones={semitones} must be > 0")
    first, stop = np.ceil(12 * np.log2(np.array([LOWEST, HIGHEST]) / A4) / semitones)
    return A4 * 2 ** (np.arange(first, stop) * semitones / 12)


def cents(frequency: np.ndarray) -> np.ndarray:
    """Distance from the nearest note of the standard pitch in cents, -50 to 50 (A4 = 440 Hz)."""
    semitones = 12 * np.log2(np.asarray(frequency, dtype=np.float64) / A4)
    return 100 * (semitones - np.round(semitones))


def tones(frequency: ArrayLike, amplitude: ArrayLike, phase: ArrayLike, samples: int, sample_rate: int) -> np.ndarray:
    """Pure tones.

    Parameters
    ----------
    frequency, amplitude, phase : array_like [shape=(n,)]
        In Hz, full scale 1, and radians at the first sample.
    samples, sample_rate : int

    Returns
    -------
    np.ndarray [shape=(n, samples)]
    """
    seconds = np.arange(samples) / sample_rate
    columns = [np.asarray(x, np.float64)[:, None] for x in (frequency, amplitude, phase)]
    return columns[1] * np.sin(2 * np.pi * columns[0] * seconds + columns[2])


def tone_probes(
    frequency: np.ndarray, geometry: Geometry, *, reading: str = "paper", seed: int = 0
) -> tuple[np.ndarray, pd.DataFrame]:
    """Segments of pure tones, with amplitudes and phases spread evenly over their ranges in random order.

    Parameters
    ----------
    frequency : np.ndarray [shape=(n,)]
        In Hz.
    geometry : Geometry
    reading : str
        Key of :data:`READINGS`.
    seed : int
        Of the order.

    Returns
    -------
    segments : np.ndarray [shape=(n, length)]
    described : pandas.DataFrame
        frequency, amplitude, phase.
    """
    rng, (low, high), widest = np.random.default_rng(seed), *READINGS[reading]
    amplitude, phase = (rng.permutation(np.linspace(0, 1, len(frequency))) for _ in range(2))
    described = pd.DataFrame(
        {"frequency": frequency, "amplitude": low + (high - low) * amplitude, "phase": widest * phase}
    )
    drawn = [described[name].to_numpy() for name in ("frequency", "amplitude", "phase")]
    return tones(drawn[0], drawn[1], drawn[2], geometry.length, geometry.sample_rate), described


def tone_scores(
    contender: Contender, frequency: np.ndarray, geometry: Geometry, *, reading: str = "paper", seed: int = 0
) -> pd.DataFrame:
    """Score a method on pure tones.

    Parameters
    ----------
    contender : Contender
    frequency, geometry, reading, seed
        As in :func:`tone_probes`.

    Returns
    -------
    pandas.DataFrame
        frequency, amplitude, phase, snr_td, snr_ms.

    Raises
    ------
    FileNotFoundError
        If the network has not been trained.
    """
    segments, described = tone_probes(frequency, geometry, reading=reading, seed=seed)
    return described.join(pd.DataFrame(score(segments, contender.fill(segments, geometry), geometry)))


def running_average(values: np.ndarray, points: int = 25) -> np.ndarray:
    """Mean of the `points` values around each, of fewer near the ends.

    Parameters
    ----------
    values : np.ndarray [shape=(n,)]
    points : int
        The paper has 25.

    Returns
    -------
    np.ndarray [shape=(n,)]
    """
    return pd.Series(values).rolling(points, center=True, min_periods=1).mean().to_numpy()


class Mean(NamedTuple):
    """A mean with its 95 % interval, and how many values it is of."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: np.ndarray, *, draws: int = 2000, seed: int = 0) -> Mean:
        """Mean of the finite values, each drawn by itself in the bootstrap."""
        finite = np.asarray(values)[np.isfinite(values)]
        low, high = cluster_bootstrap(finite, np.arange(len(finite)), draws=draws, seed=seed)
        return cls(float(finite.mean()) if len(finite) else float("nan"), low, high, len(finite))

    def __str__(self) -> str:
        mean, low, high = (f"{round(value, 1) + 0.0:+.1f}" for value in self[:3])  # never -0.0
        return f"{mean} dB ({low} to {high}, n = {self.n})"


def note_contrast(scores: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> Mean:
    """How much better tones on notes are inpainted than tones between notes.

    Parameters
    ----------
    scores : pandas.DataFrame
        frequency and snr_ms of tones of one method.
    draws, seed : int
        Of the bootstrap.

    Returns
    -------
    Mean
        SNR_MS of tones within 10 cents of a note less that of tones 40 cents or more away from one, interpolated to the
        same frequency; in dB.

    Raises
    ------
    ValueError
        If there are not both kinds of tones.
    """
    scores = scores[np.isfinite(scores["snr_ms"])].sort_values("frequency")
    off = np.abs(cents(scores["frequency"].to_numpy()))
    on, between = scores[off <= 10], scores[off >= 40]
    if on.empty or between.empty:
        raise ValueError("tones must lie on notes and between them: take them 0.5 or 1.5 semitones apart")
    level = np.interp(np.log(on["frequency"]), np.log(between["frequency"]), between["snr_ms"])
    return Mean.of(on["snr_ms"].to_numpy() - level, draws=draws, seed=seed)


def fluctuation(values: np.ndarray, points: int = 25) -> float:
    """Standard deviation of values about their :func:`running_average`, those that are not finite left out."""
    values = np.asarray(values)[np.isfinite(values)]
    return float(np.std(values - running_average(values, points)))


# -- sweeps -------------------------------------------------------------------------------------------------------


def sweep_frequencies(seconds: np.ndarray, reading: str, geometry: Geometry) -> np.ndarray:
    """Frequencies of the five sweeps at given times.

    Parameters
    ----------
    seconds : np.ndarray [shape=(times,)]
    reading : str
        One of :data:`SWEEPS`.
    geometry : Geometry
        The sweeps last as long as its segments.

    Returns
    -------
    np.ndarray [shape=(5, times)]
        In Hz.

    Raises
    ------
    ValueError
        If there is no such reading.
    """
    if reading not in SWEEPS:
        raise ValueError(f"reading={reading!r} must be one of {', '.join(SWEEPS)}")
    figure = tables.paper()["figures"]["7"]
    first = np.array(figure["first_hz"], np.float64)[:, None]
    part = np.asarray(seconds) / geometry.seconds
    if reading == "linear":
        return first + figure["bandwidth_hz"] * part
    return first * (1 + figure["bandwidth_hz"] / first) ** part


def sweeps(reading: str, geometry: Geometry, *, count: int = 1, seed: int = 0) -> np.ndarray:
    """Sums of the five sweeps of Fig. 7, which all have the same amplitude and phases drawn for each sum.

    Parameters
    ----------
    reading : str
        One of :data:`SWEEPS`.
    geometry : Geometry
    count : int
    seed : int
        Of the phases; the first sums are the same whatever their number.

    Returns
    -------
    np.ndarray [shape=(count, length)]
        Peak below 0.75.
    """
    seconds = np.arange(geometry.length) / geometry.sample_rate
    first = sweep_frequencies(np.zeros(1), reading, geometry)[:, 0]
    last = sweep_frequencies(np.array([geometry.seconds]), reading, geometry)[:, 0]
    kind = "linear" if reading == "linear" else "logarithmic"
    phases = np.random.default_rng(seed).uniform(0, 360, (count, len(first)))
    whole = np.zeros((count, geometry.length))
    for sweep, (low, high) in enumerate(zip(first, last, strict=True)):
        for row, phase in zip(whole, phases[:, sweep], strict=True):
            row += 0.15 * scipy.signal.chirp(seconds, low, geometry.seconds, high, kind, phi=phase)
    return whole


def _scored(segments: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Magnitudes in the frames that SNR_MS compares, [n, frames, bins]."""
    return np.abs(stft(segments, geometry)[:, geometry.scored_frames])


def sweep_scores(segments: np.ndarray, gaps: np.ndarray, reading: str, geometry: Geometry) -> pd.DataFrame:
    """Score gaps of sweeps: how well they are followed, and what was put between them.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        Originals.
    gaps : np.ndarray [shape=(n, gap)]
    reading : str
    geometry : Geometry

    Returns
    -------
    pandas.DataFrame
        snr_td and snr_ms; snr_along, that is SNR_MS of the bins within :data:`BESIDE` of a sweep; between_db, the
        energy of the restored signal in all other bins over that of the whole original, in dB.
    """
    frames = np.arange(geometry.frames)[geometry.scored_frames] * geometry.hop / geometry.sample_rate
    bins = np.arange(geometry.bins) * geometry.sample_rate / geometry.window
    swept = sweep_frequencies(frames, reading, geometry)
    along = (np.abs(swept[:, :, None] - bins) <= BESIDE).any(axis=0)
    original, restored = (_scored(x, geometry) for x in (segments, restore(segments, gaps, geometry)))
    between = np.sum(restored[:, ~along] ** 2, axis=-1) / np.sum(original**2, axis=(-2, -1))
    with np.errstate(divide="ignore"):
        level = 10 * np.log10(between)
    own = {"snr_along": snr(original[:, along], restored[:, along]), "between_db": level}
    return pd.DataFrame(score(segments, gaps, geometry) | own)


# -- the table of probes ------------------------------------------------------------------------------------------

_ALWAYS = ("geometry", "inpaint", "metrics", "stft")
_NETWORK = ("encoder", "networks", "tf_stft", "weights")
_CODE = {
    "interpolation": ("phase",),
    "lpc": ("lpc",),
    "magnitude": ("phase", *_NETWORK),
    "complex": _NETWORK,
    "hybrid": ("hybrid", "janssen", "lpc", "encoder", "tf_stft"),
}
"""Modules that a method's scores depend on, beside those that all do."""


def _key(contender: Contender, name: str, segments: np.ndarray, geometry: Geometry) -> str:
    """Hash of everything that the scores depend on: signals, geometry, weights, code."""
    own = contender.weights_name
    described = [name, geometry.to_dict(), *contender, weights.read_card(own)["sha256"] if own else ""]
    digest = hashlib.sha256(json.dumps(described).encode() + segments.tobytes())
    for module in sorted({*_ALWAYS, *_CODE[contender.method]}):
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return digest.hexdigest()[:16]


def _probes(
    semitones: float, sums: int, seed: int, geometry: Geometry
) -> Iterator[tuple[str, str, np.ndarray, pd.DataFrame]]:
    """What is probed: kind of probe, reading, segments, and what describes each."""
    grid = frequencies(semitones)
    for reading, every in (("paper", 1), ("released", 3)):
        yield "tones", reading, *tone_probes(grid[::every], geometry, reading=reading, seed=seed)
    for reading in SWEEPS:
        yield "sweeps", reading, sweeps(reading, geometry, count=sums, seed=seed), pd.DataFrame(index=range(sums))


def probe(
    path: Path, *, semitones: float = 1.5, sums: int = 8, seed: int = 0, geometry: Geometry | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score every contender on tones and sweeps, what `path` does not hold already, and write the table and its record.

    Parameters
    ----------
    path : Path
        Of the table, ending in ``.parquet``.
    semitones : float
        From each tone to the next, see :func:`frequencies`. Of the released code's tones, every third is taken.
    sums : int
        Sums of five sweeps, each with its own phases.
    seed : int
        Of amplitudes and phases.
    geometry : Geometry, optional

    Returns
    -------
    table : pandas.DataFrame
        probe (``tones`` or ``sweeps``), reading, method, trained_on (empty where there is no choice), frequency,
        amplitude, phase, snr_td, snr_ms, snr_along, between_db (NaN where a column does not apply), key.
    record : dict
    """
    geometry = geometry or Geometry()
    kept, made = {}, {}
    try:
        held, record = read_table(path, "make notebooks ONLY=11")
    except (FileNotFoundError, ValueError):
        pass
    else:
        kept, made = dict(list(held.groupby("key"))), record["pieces"]
    pieces: dict[str, dict[str, Any]] = {}
    parts: dict[str, pd.DataFrame] = {}
    for contender in contenders():
        for what, reading, segments, described in _probes(semitones, sums, seed, geometry):
            key = _key(contender, f"{what} {reading}", segments, geometry)
            if key in kept and key in made:
                parts[key], pieces[key] = kept[key], made[key]
                continue
            begin = time.monotonic()
            gaps = contender.fill(segments, geometry)
            if what == "sweeps":
                scores = sweep_scores(segments, gaps, reading, geometry)
            else:
                scores = pd.DataFrame(score(segments, gaps, geometry))
            labels = {"probe": what, "reading": reading, **contender._asdict()}
            parts[key] = described.assign(**labels).join(scores).assign(key=key)
            seconds = round(time.monotonic() - begin, 2)
            pieces[key] = labels | {"seconds": seconds, "commit": environment()["commit"]}
    table = pd.concat(parts.values(), ignore_index=True)
    record = {
        "what": "scores of synthetic probes",
        "semitones": semitones,
        "sums": sums,
        "seed": seed,
        "geometry": geometry.to_dict(),
        "weights": {
            name: weights.read_card(name)["sha256"] for c in contenders() if (name := c.weights_name) is not None
        },
        "pieces": pieces,
    }
    if set(pieces) != set(made) or not path.exists():
        write_table(path, table, record)
    return read_table(path, "make notebooks ONLY=11")


# -- cases found in the scores ------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A segment of the test set that was found by its scores.

    Attributes
    ----------
    segment : int
        Where it begins in the corpus, in samples.
    track : str
    seconds : float
        Where it begins in its track.
    difference : float
        Score of the method less that of the other, in dB.
    """

    segment: int
    track: str
    seconds: float
    difference: float


def find_case(results: tables.Results, kind: str, method: str, which: str, *, other: str = "lpc") -> Case:
    """Search the scored test segments for the best, the worst or the median of a method against another, in SNR_MS.

    Parameters
    ----------
    results : Results
    kind : {'music', 'instruments'}
    method, other : str
        Keys of :data:`ctxe_lib.inpaint.METHODS`.
    which : {'best', 'worst', 'median'}

    Returns
    -------
    Case

    Raises
    ------
    ctxe_lib.tables.NotMeasured
        If one of them has not been scored.
    ValueError
        If no segment has both scores, the scores are of another build of the corpus, or `which` is none of these.
    """
    quantile = {"best": 1.0, "worst": 0.0, "median": 0.5}
    if which not in quantile:
        raise ValueError(f"which={which!r} must be one of {', '.join(quantile)}")
    difference = tables.paired(results, kind, method, other, "snr_ms")
    corpus, command = results.corpus(kind), tables.COMMANDS[""].format(results.corpora[kind])
    if results.record(kind)["data"] != corpus.fingerprint:
        raise ValueError(f"{results.path(kind).name} has scores of another build of {corpus.name}: run `{command}`")
    if difference.empty:
        raise ValueError(f"no segment of {corpus.name} has an SNR_MS by both {method} and {other}")
    values, starts = difference.to_numpy(), difference.index.get_level_values("segment").to_numpy()
    found = int(np.argmin(np.abs(values - np.quantile(values, quantile[which]))))
    row = corpus.tracks.iloc[corpus.track_rows(starts[[found]])[0]]
    seconds = (starts[found] - row["offset"]) / corpus.geometry.sample_rate
    return Case(int(starts[found]), str(row["track"]), float(seconds), float(values[found]))


def band_scores(segments: np.ndarray, gaps: np.ndarray, geometry: Geometry, edge: float) -> tuple[np.ndarray, ...]:
    """SNR_MS of the bins below a frequency, and of the others.

    Parameters
    ----------
    segments : np.ndarray [shape=(n, length)]
        Originals.
    gaps : np.ndarray [shape=(n, gap)]
    geometry : Geometry
    edge : float
        In Hz.

    Returns
    -------
    below, above : np.ndarray [shape=(n,)]
        In dB; NaN where the original has nothing there.
    """
    original, restored = (_scored(x, geometry) for x in (segments, restore(segments, gaps, geometry)))
    low = np.arange(geometry.bins) * geometry.sample_rate / geometry.window < edge
    return tuple(snr(*(x[..., part].reshape(len(x), -1) for x in (original, restored))) for part in (low, ~low))


def origin(table: pd.DataFrame, record: dict[str, Any]) -> str:
    """Where the numbers of a table of probes come from, in Markdown.

    Parameters
    ----------
    table, record
        From :func:`probe`.
    """
    tones = table[(table["probe"] == "tones") & (table["reading"] == "paper")]
    networks = "".join(f", network {name} `{digest[:12]}`" for name, digest in record["weights"].items())
    commits = sorted({f"`{(piece['commit'] or 'unknown')[:12]}`" for piece in record["pieces"].values()})
    return (
        f"*From {link('results', 'probes')}: {tones['frequency'].nunique()} tones, {record['semitones']:g} semitones "
        f"apart, and {record['sums']} sums of five sweeps{networks}; one seed ({record['seed']}), commit "
        f"{', '.join(commits)}, computed in {total_seconds(record):.0f} s on {record['cores']} cores.*"
    )


def training(name: str) -> str:
    """In words, how little a network of the paper's has seen, beside the paper's.

    Parameters
    ----------
    name : str
        Of the weights.

    Returns
    -------
    str
    """
    paper, card = tables.paper()["examples"], weights.read_card(name)
    share = 100 * card["examples"] / (paper["steps"] * paper["batch"])
    base = weights.relative_to(card)
    relative = f", and gives its output relative to {base}" if base else ""
    return (
        f"*{name}* saw {card['examples']:,} examples, {share:.2g} % of the paper's (weights `{card['sha256'][:12]}`)"
        f"{relative}"
    )
