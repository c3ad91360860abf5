"""Training of the context encoders (sections 2.5 and 3.4 of the paper) and of the hybrid, resumable after any kill.

A run lives in one folder: ``recipe.json``, ``state.safetensors`` (everything a resume needs, replaced as a whole),
``best.safetensors`` (the same at the best validation), ``log.jsonl`` and TensorBoard's event files. The batch of a
step is a function of seed and step alone, so that a resumed run sees the data that an uninterrupted one sees.
"""

from __future__ import annotations

import json
import math
import queue
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from safetensors import safe_open
from safetensors.numpy import save as dump_safetensors
from tqdm.auto import tqdm

from ctxe_lib.corpus import Corpus, JoinedCorpus
from ctxe_lib.encoder import ContextEncoder, Level
from ctxe_lib.files import write_atomically
from ctxe_lib.geometry import Geometry
from ctxe_lib.hybrid import ExampleCache, Hybrid, Options, build_hybrid
from ctxe_lib.losses import LOSSES, regularisation
from ctxe_lib.networks import Kind, build_network
from ctxe_lib.weights import weight_names

__all__ = ["Recipe", "Trainer", "TrainingStopped", "batch_starts", "build_encoder", "learning_rate", "read_log"]

EXTENDABLE = ("steps", "cooldown", "validate_every", "validation_segments")
"""Fields of a recipe that a resumed run may change: they leave the steps done so far as they were."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; stored with the run and in the card of its weights.

    Parameters
    ----------
    kind : {'magnitude', 'complex', 'hybrid'}
    corpus : str
        Name of the corpus, such as ``music-full``, or several joined by ``+``.
    steps : int
        Optimizer steps in all.
    batch : int
        Examples per step; 256 in the paper.
    rate : float
        Learning rate of Adam.
    schedule : {'paper', 'cooldown'}
        ``paper``: a tenth of the rate after three quarters of the steps (1e-3 for 600k, 1e-4 for 200k).
        ``cooldown``: linear warm-up, constant, and linearly to zero over the last ``cooldown`` steps.
    warmup, cooldown : int
        Steps of either ramp.
    loss : {'paper', 'released', 'snr'}
        Equation (1), or the released code's variant; a hybrid is trained on the scores themselves.
    regularisation : float
        ``lambda`` of equation (2), for the loss summed over a batch of 256: scaled with the batch.
    equalised : bool
        Equalised learning rate of the two last layers, see :func:`ctxe_lib.networks.build_network`; of encoders only.
    level : {'none', 'context'}
        See :class:`ctxe_lib.encoder.ContextEncoder`; of encoders only.
    averaging : float
        Decay per step of the running average of the weights that is validated and kept; 0 for none.
    clip : float
        Largest norm of the gradient, all variables together; 0 for no limit.
    pool : int
        Training segments that batches are drawn from, chosen at random once; 0 for all. A hybrid's experts work on
        each of them once.
    options : dict
        Fields of :class:`ctxe_lib.hybrid.Options` that differ from their defaults; of hybrids only.
    seed : int
        Of initial weights and data order.
    validate_every : int
        Steps between validations, each followed by a checkpoint; 2000 in the paper.
    validation_segments : int
        Validation segments scored each time, spread over the tracks of the validation split.
    """

    kind: Kind | Literal["hybrid"]
    corpus: str
    steps: int
    batch: int = 32
    rate: float = 1e-3
    schedule: Literal["paper", "cooldown"] = "cooldown"
    warmup: int = 100
    cooldown: int = 0
    loss: Literal["paper", "released", "snr"] = "paper"
    regularisation: float = 0.0
    equalised: bool = True
    level: Level = "context"
    averaging: float = 0.995
    clip: float = 0.0
    pool: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    validate_every: int = 200
    validation_segments: int = 256

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "validation_segments"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be an integer > 0")
        for name, choices in {
            "kind": ("magnitude", "complex", "hybrid"),
            "schedule": ("paper", "cooldown"),
            "loss": ("snr",) if self.kind == "hybrid" else tuple(LOSSES),
            "level": ("none", "context"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(choices)}")
        if self.options:
            if self.kind != "hybrid":
                raise ValueError(f"options={self.options}: only a hybrid has any")
            Options(**self.options)
        if self.pool < 0 or self.clip < 0:
            raise ValueError(f"pool={self.pool} and clip={self.clip} must not be negative")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging={self.averaging} must lie in [0, 1)")
        if self.rate <= 0:
            raise ValueError(f"rate={self.rate} must be > 0")

    @classmethod
    def hybrid(cls, corpus: str, steps: int, **changes: Any) -> Recipe:
        """The recipe of the hybrid; `changes` are fields of a recipe."""
        defaults: dict[str, Any] = {"batch": 32, "loss": "snr", "clip": 1.0, "pool": 100_000}
        return cls(kind="hybrid", corpus=corpus, steps=steps, **defaults | changes)

    @classmethod
    def paper(cls, kind: Kind, corpus: str) -> Recipe:
        """The recipe of section 3.4, for hardware that can do 800k steps of 256 examples."""
        return cls(
            kind=kind,
            corpus=corpus,
            steps=800_000,
            batch=256,
            schedule="paper",
            warmup=0,
            regularisation=0.01,
            equalised=False,
            level="none",
            averaging=0.0,
            validate_every=2000,
            validation_segments=1024,
        )


class TrainingStopped(RuntimeError):
    """Training ended before its last step; the message says why and how to go on."""


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of a step (0-based), see :class:`Recipe`."""
    if recipe.schedule == "paper":
        return recipe.rate * (0.1 if step >= 0.75 * recipe.steps else 1.0)
    up = (step + 1) / recipe.warmup if step < recipe.warmup else 1.0
    down = (recipe.steps - step) / recipe.cooldown if step > recipe.steps - recipe.cooldown else 1.0
    return recipe.rate * min(up, down)


def batch_starts(starts: np.ndarray, recipe: Recipe, step: int) -> np.ndarray:
    """Positions of the segments of one step's batch: drawn at random by seed and step, [batch]."""
    rng = np.random.default_rng((recipe.seed, step))
    return np.sort(starts[rng.integers(len(starts), size=recipe.batch)])


def read_log(run: Path) -> pd.DataFrame:
    """The log of a run as a table: one row per validation.

    Parameters
    ----------
    run : Path
        The run's folder, or a log file.

    Returns
    -------
    pandas.DataFrame
        step, examples, seconds (of training, over all resumes), loss (mean per example since the last row),
        validation_loss, validation_snr (dB; on the raw output as in Table 3, of a hybrid SNR_MS), of a hybrid
        validation_snr_td (dB), rate, examples_per_second.
    """
    path = run / "log.jsonl" if run.is_dir() else run
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


class Trainer:
    """One training run.

    Parameters
    ----------
    recipe : Recipe
    corpus : Corpus or JoinedCorpus
        Its train and validation splits are used.
    geometry : Geometry
    folder : Path
        The run's folder; a run that lies there is resumed.

    Raises
    ------
    ValueError
        If the folder holds a run of another recipe, or the corpus has nothing to train or validate on.
    """

    def __init__(self, recipe: Recipe, corpus: Corpus | JoinedCorpus, geometry: Geometry, folder: Path) -> None:
        self.recipe, self.corpus, self.geometry, self.folder = recipe, corpus, geometry, folder
        self.starts = corpus.starts("train")
        if not len(self.starts):
            raise ValueError(f"corpus {corpus.name} has no training segments")
        if 0 < recipe.pool < len(self.starts):
            self.starts = np.random.default_rng(recipe.seed).choice(self.starts, recipe.pool, replace=False)
            self.starts.sort()
        self.step, self.seconds, self.best = 0, 0.0, math.inf
        keras.utils.set_random_seed(recipe.seed)
        self.encoder, self.averaged = (build_encoder(recipe, geometry) for _ in range(2))
        self.source: Corpus | JoinedCorpus | ExampleCache = corpus
        if isinstance(self.encoder, Hybrid):
            self.source = ExampleCache(folder.parent / ".examples", corpus, self.encoder, self.starts)
        self.optimizer = keras.optimizers.Adam(recipe.rate, global_clipnorm=recipe.clip or None)
        self.optimizer.build(self.encoder.model.trainable_variables)
        self.validation = self.encoder.examples(self._validation_segments())
        self._train_step = tf.function(
            self._step_on,
            input_signature=[tf.TensorSpec((None, self.encoder.example_length), tf.float32), tf.TensorSpec(())],
        )
        self._claim_folder()

    # -- one step ---------------------------------------------------------------------------------------------

    def _step_on(self, examples: tf.Tensor, decay: tf.Tensor) -> tf.Tensor:
        """Update the weights on a batch of examples; returns the mean loss per example, without regularisation."""
        model, recipe = self.encoder.model, self.recipe
        with tf.GradientTape() as tape:
            losses = self.encoder.losses(examples, recipe.loss, training=True)
            # Sum over a batch of 256 plus the regulariser (equation 2), both divided by 256 whatever the batch.
            objective = tf.reduce_mean(losses)
            if recipe.regularisation:
                objective += regularisation(model.layers, recipe.regularisation) / 256
        gradients = tape.gradient(objective, model.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        for average, variable in zip(self.averaged.model.variables, model.variables, strict=True):
            value = tf.convert_to_tensor(variable)
            average.assign(value + decay * (tf.convert_to_tensor(average) - value))
        return tf.reduce_mean(losses)

    # -- the run ----------------------------------------------------------------------------------------------

    def train(self, *, progress: bool = True, until: int | None = None) -> None:
        """Train up to the recipe's last step, resuming where the run stands.

        Parameters
        ----------
        progress : bool
            Print a line per validation, and where there is a terminal, a progress bar.
        until : int, optional
            Stop after this step instead, with a checkpoint.

        Raises
        ------
        TrainingStopped
            On an interrupt, a termination signal, a loss that is not finite, or a disk too full for a checkpoint.
        """
        recipe = self.recipe
        last = min(until or recipe.steps, recipe.steps)
        if self.step >= last:
            return
        writer = tf.summary.create_file_writer(str(self.folder / "tensorboard"))
        total, counted, since = 0.0, 0, time.monotonic()
        bar = tqdm(total=last, initial=self.step, unit="step", disable=None if progress else True)
        with _stop_requests() as stop, self._batches(last) as batches, bar, writer.as_default():
            while self.step < last:
                self.optimizer.learning_rate = learning_rate(recipe, self.step)
                decay = min(recipe.averaging, (1 + self.step) / (10 + self.step)) if recipe.averaging else 0.0
                loss = float(self._train_step(tf.constant(next(batches)), tf.constant(decay)))
                if not math.isfinite(loss):
                    raise self._diverged(f"loss={loss}")
                self.step += 1
                total, counted = total + loss, counted + 1
                bar.update()
                if self.step % recipe.validate_every == 0 or self.step == last:
                    now = time.monotonic()
                    self.seconds += now - since
                    self._check_weights()
                    row = self._validate(total / counted, counted * recipe.batch / (now - since))
                    if progress:
                        bar.write(
                            f"step {self.step}: loss {row['loss']:.4f}, validation loss {row['validation_loss']:.4f}, "
                            f"SNR {row['validation_snr']:.2f} dB, {row['examples_per_second']:.1f}/s"
                        )
                    for key in ("loss", "validation_loss", "validation_snr", "rate"):
                        tf.summary.scalar(key, row[key], step=self.step)
                    writer.flush()
                    self._checkpoint(row)
                    total, counted, since = 0.0, 0, time.monotonic()
                if stop.is_set():
                    self._check_weights()
                    self.seconds += time.monotonic() - since
                    self._save("state")
                    raise TrainingStopped(
                        f"stopped at step {self.step} of {last} with a checkpoint in {self.folder}; "
                        "the same command goes on from there"
                    )

    def _diverged(self, what: str) -> TrainingStopped:
        return TrainingStopped(
            f"{what} at step {self.step}: the last good checkpoint stays in {self.folder}; lower the learning rate "
            f"(rate={self.recipe.rate:g}) or look for bad data in {self.corpus.name}"
        )

    def _check_weights(self) -> None:
        """Refuse to go on with weights that are not finite: a ReLU may hide them from the loss."""
        for name, variable in self._addressed():
            if not np.isfinite(np.asarray(variable)).all():
                raise self._diverged(f"{name} is not finite")

    def _validate(self, loss: float, speed: float) -> dict[str, float]:
        scores = [
            self.averaged.scores(self.validation[i : i + 64], self.recipe.loss)
            for i in range(0, len(self.validation), 64)
        ]
        means = {key: float(np.nanmean(np.concatenate([score[key] for score in scores]))) for key in scores[0]}
        return {
            "step": self.step,
            "examples": self.step * self.recipe.batch,
            "seconds": round(self.seconds, 1),
            "loss": loss,
            **{f"validation_{key}": value for key, value in means.items()},
            "rate": learning_rate(self.recipe, self.step - 1),
            "examples_per_second": round(speed, 2),
        }

    def _validation_segments(self) -> np.ndarray:
        """As many segments of each corpus, spread over its tracks."""
        segments, wanted = [], math.ceil(self.recipe.validation_segments / len(self.corpus.parts))
        for part in self.corpus.parts:
            tracks = int((part.tracks["split"] == "validation").sum())
            if not tracks:
                raise ValueError(f"corpus {part.name} has no validation tracks")
            starts = part.select("validation", math.ceil(wanted / tracks), self.recipe.seed)
            keep = np.linspace(0, len(starts) - 1, min(wanted, len(starts))).round().astype(int)
            segments.append(part.read(starts[keep]))
        return np.concatenate(segments)

    @contextmanager
    def _batches(self, last: int) -> Iterator[Iterator[np.ndarray]]:
        """Batches of the coming steps, read ahead by a thread, whose errors are raised here."""
        ready: queue.Queue[np.ndarray | Exception] = queue.Queue(maxsize=4)
        closing = threading.Event()

        def put(item: np.ndarray | Exception) -> None:
            while not closing.is_set():
                try:
                    return ready.put(item, timeout=0.2)
                except queue.Full:
                    continue

        def fill(first: int) -> None:
            try:
                for step in range(first, last):
                    if closing.is_set():
                        return
                    put(self.source.read(batch_starts(self.starts, self.recipe, step)))
            except Exception as error:
                put(error)

        def take() -> Iterator[np.ndarray]:
            while True:
                item = ready.get()
                if isinstance(item, Exception):
                    raise item
                yield item

        thread = threading.Thread(target=fill, args=(self.step,), daemon=True)
        thread.start()
        try:
            yield take()
        finally:
            closing.set()
            thread.join()

    # -- what lies in the folder ------------------------------------------------------------------------------

    def _claim_folder(self) -> None:
        """Begin a run in the folder, or take up the one that lies there."""
        path = self.folder / "recipe.json"
        mine = {**asdict(self.recipe), "geometry": self.geometry.to_dict(), "data": self.corpus.fingerprint}
        if path.exists():
            stored = json.loads(path.read_text())
            theirs = {**asdict(recipe_from(stored)), "geometry": stored["geometry"], "data": stored["data"]}
            changed = [k for k in mine if mine[k] != theirs.get(k) and k not in EXTENDABLE]
            if changed:
                raise ValueError(
                    f"{self.folder} holds a run with "
                    + ", ".join(f"{k}={theirs.get(k)!r} (now {mine[k]!r})" for k in changed)
                    + ": take another run folder, or remove this one"
                )
            self._load()
        write_atomically(path, (json.dumps(mine, indent=2) + "\n").encode())

    def _tensors(self) -> dict[str, np.ndarray]:
        return {key: np.asarray(variable) for key, variable in self._addressed()}

    def _save(self, name: str) -> None:
        tensors = self._tensors()
        needed = sum(tensor.nbytes for tensor in tensors.values())
        free = shutil.disk_usage(self.folder).free
        if free < 1.1 * needed:
            raise TrainingStopped(
                f"a checkpoint takes {needed / 1e6:.0f} MB, {self.folder} has {free / 1e6:.0f} MB left: make room; "
                "the last checkpoint stays as it is"
            )
        state = {"step": self.step, "seconds": self.seconds, "best": self.best}
        write_atomically(self.folder / f"{name}.safetensors", dump_safetensors(tensors, {"state": json.dumps(state)}))

    def _checkpoint(self, row: dict[str, float]) -> None:
        better = row["validation_loss"] < self.best
        self.best = min(self.best, row["validation_loss"])
        self._save("state")
        if better:
            self._save("best")
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")

    def _load(self, name: str = "state") -> None:
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return
        with safe_open(path, "np") as file:
            state = json.loads(file.metadata()["state"])
            for key, variable in self._addressed():
                variable.assign(file.get_tensor(key))
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        log = self.folder / "log.jsonl"
        if log.exists():  # rows of steps that will be done again
            rows = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            write_atomically(log, "".join(f"{row}\n" for row in rows).encode())

    def _addressed(self) -> Iterator[tuple[str, Any]]:
        for prefix, encoder in (("model", self.encoder), ("average", self.averaged)):
            for name, variable in zip(weight_names(encoder.model), encoder.model.variables, strict=True):
                yield f"{prefix}/{name}", variable
        for i, variable in enumerate(self.optimizer.variables):
            yield f"optimizer/{i}", variable

    def result(self, which: Literal["last", "best"] = "best") -> ContextEncoder | Hybrid:
        """The trained network: averaged weights of the best validation, or of the last step."""
        if which == "best":
            self._load("best")
        return self.averaged


def build_encoder(recipe: Recipe, geometry: Geometry) -> ContextEncoder | Hybrid:
    """The network that a recipe is for, with its initial weights."""
    if recipe.kind == "hybrid":
        options = Options(**recipe.options)
        return Hybrid(build_hybrid(options, geometry, recipe.seed), geometry, options)
    model = build_network(recipe.kind, geometry, equalised=recipe.equalised, seed=recipe.seed)
    return ContextEncoder(model, geometry, recipe.kind, recipe.level)


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, so that the step at hand is finished and saved."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def recipe_from(values: dict[str, Any]) -> Recipe:
    """A recipe from a run's recipe.json, whose further entries are left out."""
    names = {entry.name for entry in fields(Recipe)}
    return Recipe(**{key: value for key, value in values.items() if key in names})
