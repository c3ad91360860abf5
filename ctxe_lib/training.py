"""Training of the context encoders (sections 2.5 and 3.4 of the paper) and of the hybrid, resumable after any kill.

A run lives in one folder: ``recipe.json``, ``state.safetensors`` (everything a resume needs, replaced as a whole),
``best.safetensors`` (the same at the best validation), ``log.jsonl`` and TensorBoard's event files. The batch of a
step is a function of seed and step alone, so that a resumed run sees the data that an uninterrupted one sees.

Several devices, of one machine or of several, share each batch, and their gradients are added up: the loss curve is
that of one device but for rounding, wherever an example's loss does not depend on the rest of its batch. Batch
normalisation does: in the encoders it takes the statistics of a device's share, and its running statistics are the
mean over devices, so that n devices train an encoder as one device would train on batches of an n-th.
"""

from __future__ import annotations

import json
import math
import os
import queue
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
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
from ctxe_lib.encoder import ContextEncoder, Level, Output, Phases, check_output
from ctxe_lib.files import write_atomically
from ctxe_lib.geometry import Geometry
from ctxe_lib.hybrid import ExampleCache, Hybrid, Options, build_hybrid
from ctxe_lib.losses import LOSSES, regularisation
from ctxe_lib.networks import Kind, Precision, build_network, in_precision
from ctxe_lib.optimizer import Muon
from ctxe_lib.weights import kernel_gains, load_encoder, weight_names

__all__ = [
    "Recipe",
    "Trainer",
    "TrainingStopped",
    "batch_starts",
    "build_encoder",
    "choose_strategy",
    "continued_log",
    "learning_rate",
    "read_log",
]

EXTENDABLE = ("steps", "cooldown", "validate_every", "validation_segments")
"""Fields of a recipe that a resumed run may change: they leave the steps done so far as they were."""

STATISTICS = 1024
"""Training examples, at most, that give a network the statistics of its batch normalisation before a validation."""


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
    optimizer : {'muon', 'adam'}
        Adam in the paper; see :mod:`ctxe_lib.optimizer`.
    rate : float
        Learning rate.
    schedule : {'paper', 'cooldown'}
        ``paper``: a tenth of the rate after three quarters of the steps (1e-3 for 600k, 1e-4 for 200k).
        ``cooldown``: linear warm-up, constant, and linearly to zero over the last ``cooldown`` steps.
    warmup, cooldown : int
        Steps of either ramp.
    loss : {'paper', 'released', 'log', 'snr'}
        Equation (1), the released code's variant, or the logarithm of equation (1); a hybrid is trained on the scores
        themselves.
    regularisation : float
        ``lambda`` of equation (2), for the loss summed over a batch of 256: scaled with the batch.
    equalised : bool
        Equalised learning rate of the two last layers, see :func:`ctxe_lib.networks.build_network`; of encoders only.
    level : {'none', 'context'}
    phases : {'frame', 'continued'}
    output : {'whole', 'correction'}
        See :class:`ctxe_lib.encoder.ContextEncoder`; of encoders only.
    averaging : float
        Decay per step of the running average of the weights that is validated and kept; 0 for none.
    clip : float
        Largest norm of the gradient, all variables together; 0 for no limit.
    pool : int
        Training segments that batches are drawn from, chosen at random once, the same whatever the seed; 0 for all.
        A hybrid's experts work on each of them once.
    start : str
        Name of stored weights to start from, see :mod:`ctxe_lib.weights`; none if empty. A complex network may start
        from a magnitude network, and a network from one of another `output`: all its layers but the last.
    options : dict
        Fields of :class:`ctxe_lib.hybrid.Options` that differ from their defaults; of hybrids only.
    precision : {'single', 'mixed'}
        What layers compute in, see :data:`ctxe_lib.networks.Precision`. The range of bfloat16 is that of single
        precision, so that no loss is scaled; transforms, losses and the averaged network stay in single precision.
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
    optimizer: Literal["muon", "adam"] = "muon"
    rate: float = 4e-3
    schedule: Literal["paper", "cooldown"] = "cooldown"
    warmup: int = 100
    cooldown: int = 0
    loss: Literal["paper", "released", "log", "snr"] = "log"
    regularisation: float = 0.0
    equalised: bool = True
    level: Level = "context"
    phases: Phases = "continued"
    output: Output = "whole"
    averaging: float = 0.995
    clip: float = 0.0
    pool: int = 0
    start: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    precision: Precision = "single"
    seed: int = 0
    validate_every: int = 200
    validation_segments: int = 256

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "validation_segments"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be an integer > 0")
        for name, choices in {
            "kind": ("magnitude", "complex", "hybrid"),
            "optimizer": ("muon", "adam"),
            "schedule": ("paper", "cooldown"),
            "loss": ("snr",) if self.kind == "hybrid" else tuple(LOSSES),
            "level": ("none", "context"),
            "phases": ("frame", "continued"),
            "output": ("whole", "correction"),
            "precision": ("single", "mixed"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(choices)}")
        check_output(self.output, self.kind)
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
        defaults: dict[str, Any] = {"rate": 1e-3, "loss": "snr", "clip": 1.0, "pool": 60_000}
        return cls(kind="hybrid", corpus=corpus, steps=steps, **defaults | changes)

    @classmethod
    def paper(cls, kind: Kind, corpus: str) -> Recipe:
        """The recipe of section 3.4, for hardware that can do 800k steps of 256 examples."""
        return cls(
            kind=kind,
            corpus=corpus,
            steps=800_000,
            batch=256,
            optimizer="adam",
            rate=1e-3,
            schedule="paper",
            warmup=0,
            loss="paper",
            regularisation=0.01,
            equalised=False,
            level="none",
            phases="frame",
            averaging=0.0,
            validate_every=2000,
            validation_segments=1024,
        )


def choose_strategy(name: Literal["auto", "one", "mirrored", "multiworker"] = "auto") -> tf.distribute.Strategy:
    """How the work is spread over devices; to be chosen before TensorFlow does anything else.

    Parameters
    ----------
    name : {'auto', 'one', 'mirrored', 'multiworker'}
        ``one``: TensorFlow's first device. ``mirrored``: all GPUs of this machine, or all logical CPU devices where
        there is no GPU. ``multiworker``: the processes that the environment variable ``TF_CONFIG`` lists, each with
        all its GPUs. ``auto``: ``multiworker`` where ``TF_CONFIG`` is set, ``mirrored`` where TensorFlow sees several
        GPUs, else ``one``.

    Returns
    -------
    tf.distribute.Strategy

    Raises
    ------
    ValueError
        If ``multiworker`` is wanted and ``TF_CONFIG`` is not set.
    """
    if name == "auto":
        several = len(tf.config.list_physical_devices("GPU")) > 1
        name = "multiworker" if "TF_CONFIG" in os.environ else "mirrored" if several else "one"
    if name == "multiworker":
        if "TF_CONFIG" not in os.environ:
            raise ValueError(
                "strategy multiworker: the environment variable TF_CONFIG must list the workers, such as "
                '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


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
        validation_snr_td (dB), rate, examples_per_second, waiting (share of the time since the last row that was
        spent waiting for data).
    """
    path = run / "log.jsonl" if run.is_dir() else run
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


def continued_log(log: pd.DataFrame, kind: str, before: Mapping[str, Any] | None, folder: Path) -> pd.DataFrame:
    """A run's log that counts on from the network it started from.

    Parameters
    ----------
    log : pandas.DataFrame
        Of the run, from :func:`read_log`.
    kind : str
        Of the run's network.
    before : Mapping or None
        Name, kind, examples and hours (both in all) of the network it started from.
    folder : Path
        Where that network's own log lies, if it has one.

    Returns
    -------
    pandas.DataFrame
        As `log`, with examples and seconds in all. In front of it the rows of the other log, if that is of the same
        kind: those up to its network's examples, since this very run may have been exported under its name before.
    """
    if before is None:
        return log
    seconds = log["seconds"] + 3600 * before["hours"]
    counted = log.assign(examples=log["examples"] + before["examples"], seconds=seconds.round(1))
    path = folder / f"{before['name']}.log.jsonl"
    if before["kind"] != kind or not path.exists():
        return counted
    earlier = read_log(path)
    return pd.concat([earlier[earlier["examples"] <= before["examples"]], counted], ignore_index=True)


class Trainer:
    """One training run.

    Parameters
    ----------
    recipe : Recipe
    corpus : Corpus or JoinedCorpus
        Its train and validation splits are used.
    geometry : Geometry
    folder : Path
        The run's folder; a run that lies there is resumed. Of several workers the first one validates and writes;
        all of them must see the folder.
    strategy : tf.distribute.Strategy, optional
        From :func:`choose_strategy`; one device if not given.
    xla : bool
        Compile losses and gradients with XLA.

    Raises
    ------
    ValueError
        If the folder holds a run of another recipe, the corpus has nothing to train or validate on, the batch
        cannot be shared equally, or workers see different states of the run.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus | JoinedCorpus,
        geometry: Geometry,
        folder: Path,
        *,
        strategy: tf.distribute.Strategy | None = None,
        xla: bool = False,
    ) -> None:
        self.recipe, self.corpus, self.geometry, self.folder = recipe, corpus, geometry, folder
        self.strategy = strategy or tf.distribute.get_strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        if recipe.batch % self.replicas:
            fitting = math.ceil(recipe.batch / self.replicas) * self.replicas
            raise ValueError(
                f"batch={recipe.batch} cannot be shared equally by {self.replicas} devices: take batch={fitting}, or "
                "other devices"
            )
        mine: list[int] = []  # numbers of this process' devices among all

        def count(context: Any) -> tf.Tensor:
            mine.append(context.replica_id_in_sync_group)
            return tf.constant(0.0)

        self.strategy.experimental_distribute_values_from_function(count)
        self.first, self.devices = mine[0], len(mine)
        self.chief = self.first == 0
        self.starts = corpus.starts("train")
        if not len(self.starts):
            raise ValueError(f"corpus {corpus.name} has no training segments")
        if 0 < recipe.pool < len(self.starts):
            # Seeds share the pool, and so what a hybrid's experts have worked out for it.
            self.starts = np.random.default_rng(0).choice(self.starts, recipe.pool, replace=False)
            self.starts.sort()
        self.step, self.seconds, self.best = 0, 0.0, math.inf
        keras.utils.set_random_seed(recipe.seed)
        with self.strategy.scope(), tf.variable_creator_scope(_mean_of_statistics):
            self.encoder = build_encoder(recipe, geometry, recipe.precision)
            # Clipped is the mean over devices, which Keras then sums up.
            clip = recipe.clip / self.replicas or None
            if recipe.optimizer == "muon":
                dtype = "bfloat16" if recipe.precision == "mixed" else "float32"
                self.optimizer = Muon(recipe.rate, dtype=dtype, global_clipnorm=clip)
            else:
                self.optimizer = keras.optimizers.Adam(recipe.rate, global_clipnorm=clip)
            self.optimizer.build(self.encoder.model.trainable_variables)
        self.averaged = build_encoder(recipe, geometry)
        self.source: Corpus | JoinedCorpus | ExampleCache = corpus
        if isinstance(self.encoder, Hybrid):
            own = folder.parent / ".examples" / ("" if self.chief else f"from{self.first}")  # a cache has one writer
            self.source = ExampleCache(own, corpus, self.encoder, self.starts)
        self.started_from: dict[str, Any] | None = None
        if recipe.start and not (folder / "state.safetensors").exists():
            self._start_from(recipe.start)
        if self.chief:
            self.validation = self.encoder.examples(self._validation_segments())
        self._gradients = tf.function(self._gradients_on, jit_compile=True) if xla else self._gradients_on
        signature = None  # values that are spread over devices have none
        if self.strategy is tf.distribute.get_strategy():
            shape = (None, self.encoder.example_length)
            signature = [tf.TensorSpec(shape), tf.TensorSpec(()), tf.TensorSpec(())]
        self._train_step = tf.function(self._step_on, input_signature=signature)
        self._claim_folder()
        self._meet()

    def _start_from(self, name: str) -> None:
        """Take the weights of a stored network; a last layer of another kind or output stays as it is."""
        start, card = load_encoder(name)
        given, wanted = start.card(), self.encoder.card()
        whole = given.pop("output", None) == wanted.pop("output", None)  # the last layer means the same
        if start.geometry != self.geometry or given != wanted:
            raise ValueError(
                f"start={name!r} was trained for {start.geometry} and {given}, this network is for "
                f"{self.geometry} and {wanted}: they must agree"
            )
        stored = dict(zip(weight_names(start.model), start.model.variables, strict=True))
        for model in (self.encoder.model, self.averaged.model):
            gains = kernel_gains(model)
            last = [layer.name for layer in model.layers if layer.weights][-1]
            for key, variable in zip(weight_names(model), model.variables, strict=True):
                if stored[key].shape == variable.shape and (whole or not key.startswith(f"{last}/")):
                    variable.assign(np.asarray(stored[key]) / gains.get(key, 1.0))
        kept = ("name", "sha256", "kind", "examples", "hours")
        further = ("environment", "started_from")  # so that a card tells of all runs, not only of the last one
        self.started_from = {key: card[key] for key in kept} | {key: card.get(key) for key in further}

    def _meet(self) -> None:
        """Wait for the other workers, who must be at the same step."""
        if self.devices == self.replicas:
            return
        steps = self.strategy.experimental_distribute_values_from_function(lambda _: tf.constant(float(self.step)))
        if float(self.strategy.reduce(tf.distribute.ReduceOp.SUM, steps, axis=None)) != self.step * self.replicas:
            raise ValueError(
                f"workers disagree on where the run stands, this one finds step {self.step} in {self.folder}: put "
                "runs/ on a file system that all of them share"
            )

    # -- one step ---------------------------------------------------------------------------------------------

    def _gradients_on(self, examples: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Mean loss per example, without regularisation, and gradients on one device; each a share of the sum."""
        model, recipe = self.encoder.model, self.recipe
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.encoder.losses(examples, recipe.loss, training=True))
            # Sum over a batch of 256 plus the regulariser (equation 2), both divided by 256 whatever the batch.
            objective = loss
            if recipe.regularisation:
                objective += regularisation(model.layers, recipe.regularisation) / 256
            objective /= self.replicas
        return loss / self.replicas, tape.gradient(objective, model.trainable_variables)

    def _device_step(self, examples: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
        """Update the weights on one device's share of the batch; returns what `_step_on` returns."""
        loss, gradients = self._gradients(examples)
        context = tf.distribute.get_replica_context()
        if self.recipe.clip:
            gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        self.optimizer.apply_gradients(zip(gradients, self.encoder.model.trainable_variables, strict=True))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([loss, stop]))

    def _step_on(self, examples: tf.Tensor, decay: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
        """Update the weights on a batch; returns its mean loss per example and how many devices are asked to stop."""
        outcome = self.strategy.run(self._device_step, (examples, stop))
        for average, variable in zip(self.averaged.model.variables, self.encoder.model.variables, strict=True):
            value = tf.convert_to_tensor(variable)
            average.assign(value + decay * (tf.convert_to_tensor(average) - value))
        return self.strategy.experimental_local_results(outcome)[0]

    def _shared(self, examples: np.ndarray) -> Any:
        """Examples of this process' share of a batch, spread over its devices."""
        shares = np.split(examples, self.devices)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(shares[context.replica_id_in_sync_group - self.first])
        )

    # -- the run ----------------------------------------------------------------------------------------------

    def train(self, *, progress: bool = True, until: int | None = None) -> None:
        """Train up to the recipe's last step, resuming where the run stands.

        Parameters
        ----------
        progress : bool
            Print a line per validation, and where there is a terminal, a progress bar. Of several workers the first
            one does.
        until : int, optional
            Stop after this step instead, with a checkpoint.

        Raises
        ------
        TrainingStopped
            On an interrupt, a termination signal, a loss that is not finite, a disk too full for a checkpoint, or
            when another worker is gone.
        """
        recipe, progress = self.recipe, progress and self.chief
        last = min(until or recipe.steps, recipe.steps)
        if self.step >= last:
            return
        events = str(self.folder / "tensorboard")
        writer = tf.summary.create_file_writer(events) if self.chief else tf.summary.create_noop_writer()
        total, counted, waited, since = 0.0, 0, 0.0, time.monotonic()
        bar = tqdm(total=last, initial=self.step, unit="step", disable=None if progress else True)
        with _stop_requests() as stop, self._batches(last) as batches, bar, writer.as_default():
            while self.step < last:
                self.optimizer.learning_rate = learning_rate(recipe, self.step)
                decay = min(recipe.averaging, (1 + self.step) / (10 + self.step)) if recipe.averaging else 0.0
                asked = time.monotonic()
                examples = next(batches)
                waited += time.monotonic() - asked
                loss, stopping = self._run_step(examples, decay, stop.is_set())
                if not math.isfinite(loss):
                    raise self._diverged(f"loss={loss}")
                self.step += 1
                total, counted = total + loss, counted + 1
                bar.update()
                if self.step % recipe.validate_every == 0 or self.step == last:
                    now = time.monotonic()
                    self.seconds += now - since
                    self._check_weights()
                    if self.chief:
                        gathered = self._settle_statistics()
                        row = self._validate(total / counted, counted * recipe.batch / (now - since))
                        row["waiting"] = round(waited / (now - since), 4)
                        if progress:
                            bar.write(
                                f"step {self.step}: loss {row['loss']:.4f}, validation loss "
                                f"{row['validation_loss']:.4f}, SNR {row['validation_snr']:.2f} dB, "
                                f"{row['examples_per_second']:.1f}/s"
                            )
                        for key in ("loss", "validation_loss", "validation_snr", "rate"):
                            tf.summary.scalar(key, row[key], step=self.step)
                        writer.flush()
                        self._checkpoint(row, gathered)
                    total, counted, waited, since = 0.0, 0, 0.0, time.monotonic()
                if stopping:
                    self._check_weights()
                    self.seconds += time.monotonic() - since
                    if self.chief:
                        self._save("state")
                    raise TrainingStopped(
                        f"stopped at step {self.step} of {last} with a checkpoint in {self.folder}; "
                        "the same command goes on from there"
                    )

    def _run_step(self, examples: np.ndarray, decay: float, stop: bool) -> tuple[float, bool]:
        """One step of all devices: mean loss per example, and whether any worker was asked to stop."""
        try:
            shared = self._shared(examples)
            loss, stopping = self._train_step(shared, tf.constant(decay), tf.constant(float(stop))).numpy()
        except tf.errors.OpError as error:
            if self.devices == self.replicas:
                raise
            raise TrainingStopped(
                f"step {self.step}: a worker is gone ({type(error).__name__}); the last checkpoint is in "
                f"{self.folder}, and the same command on all workers goes on from there"
            ) from error
        return float(loss), stopping > 0

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

    def _statistics(self) -> list[Any]:
        """Running statistics of the averaged network's batch normalisation."""
        return self.averaged.model.non_trainable_variables

    def _settle_statistics(self) -> list[np.ndarray]:
        """Give the averaged network the batch statistics of its own weights; returns those it had.

        The ones gathered on the way belong to weights that have moved on since (P. Izmailov et al., "Averaging
        weights leads to wider optima and better generalization", UAI 2018, section 3.2).
        """
        gathered = [np.asarray(variable) for variable in self._statistics()]
        norms = [layer for layer in self.averaged.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        if not norms:
            return gathered
        momenta = [layer.momentum for layer in norms]
        for layer in norms:
            layer.momentum = 0.0  # a batch leaves its own statistics
        count, batches = min(STATISTICS, 64 * self.recipe.batch), []
        drawn = batch_starts(self.starts, replace(self.recipe, batch=count), 0)
        for starts in np.random.default_rng(self.recipe.seed).permutation(drawn).reshape(-1, min(64, count)):
            examples = self.source.read(starts)
            self.averaged.losses(tf.constant(examples), self.recipe.loss, training=True)
            batches.append([(np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)) for layer in norms])
        for layer, momentum, own in zip(norms, momenta, zip(*batches, strict=True), strict=True):
            means, variances = (np.stack(values) for values in zip(*own, strict=True))
            layer.moving_mean.assign(means.mean(0))
            layer.moving_variance.assign(variances.mean(0) + means.var(0))  # within batches, and between them
            layer.momentum = momentum
        return gathered

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
        """As many segments of each corpus, over its tracks; the same whatever the seed, so that seeds compare."""
        segments, wanted = [], math.ceil(self.recipe.validation_segments / len(self.corpus.parts))
        for part in self.corpus.parts:
            tracks = int((part.tracks["split"] == "validation").sum())
            if not tracks:
                raise ValueError(f"corpus {part.name} has no validation tracks")
            starts = part.select("validation", math.ceil(wanted / tracks), 0)
            keep = np.linspace(0, len(starts) - 1, min(wanted, len(starts))).round().astype(int)
            segments.append(part.read(starts[keep]))
        return np.concatenate(segments)

    @contextmanager
    def _batches(self, last: int) -> Iterator[Iterator[np.ndarray]]:
        """Batches of the coming steps, read ahead by a thread, whose errors are raised here."""
        ready: queue.Queue[np.ndarray | Exception] = queue.Queue(maxsize=4)
        closing = threading.Event()
        mine = slice(self.first, self.first + self.devices)

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
                    starts = batch_starts(self.starts, self.recipe, step)
                    put(self.source.read(starts.reshape(self.replicas, -1)[mine].ravel()))
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
        mine = json.loads(json.dumps(mine))  # as the file gives it, which has lists for tuples
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
            self.started_from = stored.get("started_from", self.started_from)
            self._load()
        mine["started_from"] = self.started_from
        if self.chief:
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

    def _checkpoint(self, row: dict[str, float], gathered: list[np.ndarray]) -> None:
        """Keep what was validated if it is the best, and the state with the statistics `gathered` on the way."""
        better = row["validation_loss"] < self.best
        self.best = min(self.best, row["validation_loss"])
        if better:
            self._save("best")
        for variable, value in zip(self._statistics(), gathered, strict=True):
            variable.assign(value)
        self._save("state")
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
        if name == "state" and self.chief and log.exists():  # rows of steps that will be done again
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
        else:
            self._settle_statistics()
        return self.averaged


def build_encoder(recipe: Recipe, geometry: Geometry, precision: Precision = "single") -> ContextEncoder | Hybrid:
    """The network that a recipe is for, with its initial weights; `precision` as in :class:`Recipe`."""
    kind, options, seed = recipe.kind, Options(**recipe.options), recipe.seed
    if kind == "hybrid":
        return Hybrid(in_precision(precision, lambda: build_hybrid(options, geometry, seed)), geometry, options)
    model = in_precision(precision, lambda: build_network(kind, geometry, equalised=recipe.equalised, seed=seed))
    return ContextEncoder(model, geometry, kind, recipe.level, recipe.phases, recipe.output)


def _mean_of_statistics(create: Any, **arguments: Any) -> tf.Variable:
    """Create a variable; what devices put into one that is not trainable, such as running statistics, is averaged."""
    if not arguments.get("trainable") and arguments.get("aggregation") == tf.VariableAggregation.NONE:
        arguments["aggregation"] = tf.VariableAggregation.MEAN
    return create(**arguments)


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
    values = {"optimizer": "adam"} | values  # what runs had that do not say
    return Recipe(**{key: value for key, value in values.items() if key in names})
