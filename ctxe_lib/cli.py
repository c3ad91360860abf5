"""Command line of the library: repair recordings, train networks, score methods.

``ctxe repair``; ``train``, ``ablate``, ``export``; ``evaluate``, ``gaps``, ``overfit``, ``seeds``, ``challenge``,
``leaderboard``, ``release``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
console = Console()

CorpusNames = Annotated[
    str, typer.Option("--corpus", help="Name of a corpus, such as music-full, or several joined by +.")
]
CorpusName = Annotated[str, typer.Option("--corpus", help="Name of a corpus, such as music-full; see data_scripts/.")]
Computing = Annotated[
    Literal["single", "mixed"], typer.Option(help="mixed: layers compute in bfloat16; for GPUs, and CPUs with AMX.")
]
Run = Annotated[str, typer.Argument(help="Name of the run: its folder below runs/.")]


def _fail(error: Exception) -> typer.Exit:
    console.print(f"[red]{error}[/red]", highlight=False, soft_wrap=True)
    return typer.Exit(1)


@app.command()
def train(
    run: Run,
    kind: Annotated[Literal["magnitude", "complex", "hybrid"], typer.Option(help="Network type.")] = "magnitude",
    corpus: CorpusNames = "music-quick",
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps in all; may be raised when resuming.")] = 1000,
    recipe: Annotated[
        Literal["short", "paper"],
        typer.Option(help="short: for a small budget. paper: section 3.4, 800k steps of 256 examples."),
    ] = "short",
    batch: Annotated[int | None, typer.Option(min=1, help="Examples per step.")] = None,
    optimizer: Annotated[Literal["muon", "adam"] | None, typer.Option(help="Default: muon.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    cooldown: Annotated[int | None, typer.Option(min=0, help="Last steps, over which the rate falls to zero.")] = None,
    loss: Annotated[
        Literal["paper", "released", "log"] | None,
        typer.Option(help="Equation (1), the released code's, or the logarithm of equation (1); for encoders."),
    ] = None,
    level: Annotated[
        Literal["none", "context"] | None,
        typer.Option(help="What segments are divided by: nothing, or the contexts' level."),
    ] = None,
    phases: Annotated[
        Literal["frame", "continued"] | None,
        typer.Option(help="Phases as the transform gives them, or relative to the contexts' own, continued."),
    ] = None,
    output: Annotated[
        Literal["whole", "correction"] | None,
        typer.Option(
            help="What the network gives: the gap's coefficients, or a correction of interpolated magnitudes."
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value of ctxe_lib.hybrid.Options; may be repeated.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Stored weights to start from; a complex network may take a magnitude network's.")
    ] = None,
    clip: Annotated[float | None, typer.Option(min=0, help="Largest norm of the gradient; 0 for no limit.")] = None,
    pool: Annotated[int | None, typer.Option(min=0, help="Training segments to draw from; 0 for all.")] = None,
    validate_every: Annotated[int | None, typer.Option(min=1, help="Steps between validations.")] = None,
    validation_segments: Annotated[int | None, typer.Option(min=1, help="Validation segments to score.")] = None,
    precision: Computing = "single",
    strategy: Annotated[
        Literal["auto", "one", "mirrored", "multiworker"],
        typer.Option(help="Devices: one, all of this machine, or the workers of TF_CONFIG; auto: what is there."),
    ] = "auto",
    xla: Annotated[bool, typer.Option("--xla", help="Compile losses and gradients with XLA.")] = False,
    seed: Annotated[int, typer.Option(help="Of initial weights and data order.")] = 0,
    until: Annotated[int | None, typer.Option(min=1, help="Stop after this step, with a checkpoint.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Train a context encoder; the same command resumes a run that was stopped or killed."""
    from ctxe_lib.corpus import open_corpora
    from ctxe_lib.geometry import Geometry
    from ctxe_lib.paths import data_folder, runs_folder
    from ctxe_lib.training import Recipe, Trainer, TrainingStopped, choose_strategy, read_log

    given: dict[str, Any] = {"seed": seed, "precision": precision}
    optional: dict[str, Any] = {"batch": batch, "rate": rate, "cooldown": cooldown, "validate_every": validate_every}
    optional |= {"pool": pool, "level": level, "phases": phases, "output": output, "clip": clip, "start": start}
    optional |= {"loss": loss, "optimizer": optimizer, "validation_segments": validation_segments}
    given |= {key: value for key, value in optional.items() if value is not None}
    try:
        if kind == "hybrid":
            chosen = Recipe.hybrid(corpus, steps, options=_options(option or []), **given)
        elif option:
            raise ValueError(f"--option {option[0]}: only --kind hybrid has options")
        elif recipe == "paper":
            chosen = dataclasses.replace(Recipe.paper(kind, corpus), **given)
        else:
            chosen = Recipe(kind=kind, corpus=corpus, steps=steps, **given)
        folder, devices = runs_folder() / run, choose_strategy(strategy)
        source = open_corpora(corpus, data_folder())
        trainer = Trainer(chosen, source, Geometry(), folder, strategy=devices, xla=xla)
        if trainer.step:
            console.print(f"resuming {run} at step {trainer.step} of {chosen.steps}")
        trainer.train(progress=progress, until=until)
    except (OSError, ValueError, TrainingStopped) as error:
        raise _fail(error) from None
    if not trainer.chief:
        return
    last = read_log(folder).iloc[-1]
    console.print(
        f"{run}: step {trainer.step}, validation SNR {last['validation_snr']:.2f} dB; store the weights with "
        f"`ctxe export {run} NAME`, watch the run with `tensorboard --logdir {runs_folder()}`"
    )


@app.command()
def ablate(
    output: Annotated[Path, typer.Argument(help="Table to write, ending in .parquet.")],
    kind: Annotated[
        Literal["magnitude", "complex", "hybrid"], typer.Option(help="hybrid: its parts; else: the encoder's recipe.")
    ] = "hybrid",
    corpus: CorpusNames = "music-full",
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of each variant.")] = 600,
    batch: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 32,
    pool: Annotated[int, typer.Option(min=0, help="Training segments to draw from; 0 for all.")] = 20_000,
    option: Annotated[list[str] | None, typer.Option(help="name=value for all variants; may be repeated.")] = None,
    validation_segments: Annotated[int, typer.Option(min=1, help="Validation segments to score.")] = 1024,
    precision: Computing = "single",
    seed: Annotated[int, typer.Option(help="Of initial weights and data order.")] = 0,
    seeds: Annotated[
        int, typer.Option(min=0, help="Instead of variants: the network as it is with so many seeds, from --seed on.")
    ] = 0,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Train variants of a network on equally many examples and compare them; the same command goes on after a stop."""
    from ctxe_lib.ablations import VARIANTS, several_seeds
    from ctxe_lib.ablations import ablate as run
    from ctxe_lib.corpus import open_corpora
    from ctxe_lib.paths import data_folder, runs_folder
    from ctxe_lib.records import write_table
    from ctxe_lib.training import Recipe, TrainingStopped

    try:
        if output.suffix != ".parquet":
            raise ValueError(f"output {output} must end in .parquet")
        source, options = open_corpora(corpus, data_folder()), _options(option or [])
        shared: dict[str, Any] = {"batch": batch, "pool": pool, "validation_segments": validation_segments}
        shared |= {"precision": precision, "seed": seed, "options": options}
        if kind == "hybrid":
            recipe = Recipe.hybrid(corpus, steps, **shared)
        else:
            recipe = Recipe(kind=kind, corpus=corpus, steps=steps, **shared)
        variants = several_seeds(seed, seeds) if seeds else VARIANTS[kind]
        table = run(recipe, variants, source, runs_folder(), progress=progress)
    except (OSError, ValueError, TrainingStopped) as error:
        raise _fail(error) from None
    what = "seeds" if seeds else "variants"
    record: dict[str, Any] = {"what": f"{what} of the {kind} network", "corpus": source.name}
    record |= {"data": source.fingerprint, "split": "validation", "steps": steps, **shared}
    record["recipe"] = dataclasses.asdict(recipe)
    write_table(output, table, record)
    console.print(table.round(2).to_string(index=False))
    console.print(f"wrote {output}", soft_wrap=True)


@app.command()
def export(
    run: Run,
    name: Annotated[str, typer.Argument(help="Name of the weights, such as music-magnitude.")],
    which: Annotated[Literal["best", "last"], typer.Option(help="Best validation, or last step.")] = "best",
    note: Annotated[str, typer.Option(help="Remark for the card.")] = "",
) -> None:
    """Store a run's network in weights/, in half precision with its card and log."""
    from ctxe_lib.corpus import open_corpora
    from ctxe_lib.files import write_atomically
    from ctxe_lib.geometry import Geometry
    from ctxe_lib.paths import data_folder, runs_folder, weights_folder
    from ctxe_lib.records import environment
    from ctxe_lib.training import Trainer, continued_log, read_log, recipe_from
    from ctxe_lib.weights import save_encoder

    folder = runs_folder() / run
    try:
        stored = json.loads((folder / "recipe.json").read_text())
        chosen = recipe_from(stored)
        corpus = open_corpora(chosen.corpus, data_folder())
        trainer = Trainer(chosen, corpus, Geometry(**stored["geometry"]), folder)
        encoder = trainer.result(which)
        own = read_log(folder)
        if trainer.step not in own["step"].array:
            raise ValueError(
                f"run {run} was stopped at step {trainer.step}, between two validations: go on with it, or export its "
                "best validation (--which best)"
            )
        log = continued_log(own, chosen.kind, trainer.started_from, weights_folder())
        row = log.tail(len(own))[own["step"].array == trainer.step].iloc[0]  # its own, not the earlier network's
        scores = {
            "loss": "loss",
            "snr": "snr_ms_db" if chosen.kind == "hybrid" else "snr_raw_db",
            "snr_td": "snr_td_db",
        }
        card = {
            "what": ("hybrid" if chosen.kind == "hybrid" else f"{chosen.kind} network of the paper")
            + f", averaged weights at the {which} validation",
            "recipe": dataclasses.asdict(chosen),
            "started_from": trainer.started_from,  # its examples and hours count below
            "data": {"corpus": corpus.name, "fingerprint": corpus.fingerprint, **_material(corpus)},
            "steps": trainer.step,
            "examples": int(row["examples"]),
            "hours": round(row["seconds"] / 3600, 4),
            "validation": {
                name: round(row[f"validation_{key}"], 4) for key, name in scores.items() if f"validation_{key}" in row
            },
            "environment": environment(),
        } | ({"note": note} if note else {})
        path = save_encoder(encoder, name, card)
    except (FileNotFoundError, ValueError) as error:
        raise _fail(error) from None
    write_atomically(weights_folder() / f"{name}.log.jsonl", log.to_json(orient="records", lines=True).encode())
    console.print(f"wrote {path} (step {trainer.step}, validation SNR {row['validation_snr']:.2f} dB)")


def _options(assignments: list[str]) -> dict[str, Any]:
    """Options of a hybrid from ``name=value`` strings; a value is JSON, or else a string."""
    from ctxe_lib.hybrid import Options

    names = [entry.name for entry in dataclasses.fields(Options)]
    options: dict[str, Any] = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        if name not in names or not value:
            raise ValueError(f"--option {assignment} must be name=value with a name among {', '.join(names)}")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def _material(corpus: Any) -> dict[str, Any]:
    """What a corpus' card entry says of its material."""
    train = corpus.tracks[corpus.tracks["split"] == "train"]
    return {
        "tracks": len(train),
        "hours": round(train["samples"].sum() / corpus.geometry.sample_rate / 3600, 2),
        "licences": sorted(set(train["licence"])),
    }


@app.command()
def evaluate(
    output: Annotated[Path, typer.Argument(help="Table to write, ending in .parquet.")],
    corpus: CorpusName = "music-quick",
    method: Annotated[
        list[str] | None, typer.Option(help="Method; may be repeated. All that can run if left out.")
    ] = None,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="Split to score.")] = "test",
    per_track: Annotated[int, typer.Option(min=1, help="Segments per track.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the selection of segments.")] = 0,
    jobs: Annotated[int, typer.Option(help="Batches at the same time; -1 for as many as there are cores.")] = -1,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler to send the work to.")] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Score inpainting methods on the segments of a corpus."""
    from ctxe_lib.corpus import Corpus
    from ctxe_lib.evaluation import evaluate as run
    from ctxe_lib.inpaint import METHODS
    from ctxe_lib.paths import data_folder
    from ctxe_lib.statistics import summarise

    if output.suffix != ".parquet":
        raise _fail(ValueError(f"output {output} must end in .parquet"))
    try:
        source = Corpus.open(data_folder() / corpus)
        table = run(
            source,
            output,
            methods=method,
            split=split,
            per_track=per_track,
            seed=seed,
            n_jobs=jobs,
            dask=dask,
            progress=progress,
        )
    except (FileNotFoundError, ValueError) as error:
        raise _fail(error) from None
    shown = Table("method", "SNR_TD (dB)", "SNR_MS (dB)", "ODG", "segments", title=f"{corpus}, {split}")
    scores = [summarise(table, metric).set_index("method") for metric in ("snr_td", "snr_ms", "odg")]
    for name in scores[0].index:
        cells = (f"{score.loc[name, 'mean']:.2f} ± {score.loc[name, 'std']:.2f}" for score in scores)
        shown.add_row(METHODS[name].label, *cells, str(scores[1].loc[name, "segments"]))
    console.print(shown)
    console.print(f"wrote {output}", soft_wrap=True)


@app.command()
def gaps(
    output: Annotated[Path, typer.Argument(help="Table to write, ending in .parquet.")],
    corpus: CorpusName = "music-quick",
    method: Annotated[
        list[str] | None, typer.Option(help="Method; may be repeated. All but slow ones if left out.")
    ] = None,
    per_track: Annotated[int, typer.Option(min=1, help="Segments per track.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the selection of segments.")] = 0,
    jobs: Annotated[int, typer.Option(help="Batches at the same time; -1 for as many as there are cores.")] = -1,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Score methods at gaps from 8 to 96 ms (Table 6)."""
    from ctxe_lib.experiments import gap_durations

    options = {"methods": method, "per_track": per_track, "seed": seed, "n_jobs": jobs, "progress": progress}
    _write_results(gap_durations, output, corpus, **options)


@app.command()
def overfit(
    output: Annotated[Path, typer.Argument(help="Table to write, ending in .parquet.")],
    corpus: CorpusName = "music-quick",
    segments: Annotated[int, typer.Option(min=1, help="Segments of each split.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the selection of segments.")] = 0,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Score the networks' raw output on all splits (Table 3)."""
    from ctxe_lib.experiments import overfitting

    _write_results(overfitting, output, corpus, segments=segments, seed=seed, progress=progress)


@app.command()
def seeds(
    output: Annotated[Path, typer.Argument(help="Table to write, ending in .parquet.")],
    corpus: CorpusName = "music-quick",
    per_track: Annotated[int, typer.Option(min=1, help="Segments per track.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the selection of segments.")] = 0,
    progress: Annotated[bool, typer.Option(help="Show progress bars.")] = True,
) -> None:
    """Score the hybrid and those trained as it was from other seeds."""
    from ctxe_lib.experiments import other_seeds

    _write_results(other_seeds, output, corpus, per_track=per_track, seed=seed, progress=progress)


@app.command()
def repair(
    source: Annotated[Path, typer.Argument(help="Recording with gaps, in any format that libsndfile reads.")],
    output: Annotated[Path, typer.Argument(help="Repaired recording to write.")],
    gap: Annotated[
        list[str] | None, typer.Option(help="START:MILLISECONDS, start in seconds; may be repeated.")
    ] = None,
    find: Annotated[bool, typer.Option("--find", help="Find dropouts: 2 to 100 ms of zeros in all channels.")] = False,
    method: Annotated[Literal["hybrid", "janssen", "lpc"], typer.Option(help="Best method to use.")] = "hybrid",
) -> None:
    """Fill gaps in a recording of any rate and number of channels."""
    import soundfile

    from ctxe_lib.repair import repair_file

    try:
        rate = soundfile.info(source).samplerate
        places = [_place(text, rate) for text in gap or []]
        report = repair_file(source, output, places, find=find, method=method)
    except (soundfile.LibsndfileError, TypeError, OSError, ValueError) as error:
        raise _fail(error) from None
    console.print(report.round(3).to_string(index=False))
    console.print(f"wrote {output}", soft_wrap=True)


def _place(text: str, rate: int) -> tuple[int, int]:
    """First and last sample of ``START:MILLISECONDS``."""
    try:
        start, milliseconds = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--gap {text} must be START:MILLISECONDS, such as 12.5:64") from None
    first = round(start * rate)
    return first, first + round(milliseconds * rate / 1e3)


@app.command()
def challenge(
    output: Annotated[Path, typer.Argument(help="Archive to write, ending in .npz.")],
    corpus: CorpusName = "music-quick",
) -> None:
    """Write the scored test segments with blank gaps, for other methods to fill."""
    from ctxe_lib.leaderboard import write_challenge

    try:
        if output.suffix != ".npz":
            raise ValueError(f"output {output} must end in .npz")
        source, scores, record = _scored(corpus)
        count = write_challenge(source, scores, record, output)
    except (FileNotFoundError, ValueError) as error:
        raise _fail(error) from None
    console.print(f"wrote {count} segments to {output}", soft_wrap=True)


@app.command()
def leaderboard(
    answer: Annotated[Path, typer.Argument(help="Archive with segment and gaps; see `ctxe challenge`.")],
    name: Annotated[str, typer.Option(help="What the method is called.")],
    corpus: CorpusName = "music-quick",
    output: Annotated[Path | None, typer.Option(help="Table of its scores to write, ending in .parquet.")] = None,
) -> None:
    """Score a filled challenge and rank it among the methods of this book."""
    import pandas as pd

    from ctxe_lib.leaderboard import rank, score_answer
    from ctxe_lib.records import write_table

    try:
        source, scores, record = _scored(corpus)
        mine = score_answer(source, scores, record, answer, name)
    except (OSError, ValueError) as error:
        raise _fail(error) from None
    if output is not None:
        kept = {key: record[key] for key in ("corpus", "rendered", "data", "split", "per_track", "seed", "geometry")}
        write_table(output, mine, {"what": f"scores per segment of {name}", **kept, "methods": [name]})
    everyone = pd.concat([scores, mine], ignore_index=True)
    shown = Table("rank", "method", "SNR_MS (dB)", "95 % interval", "SNR_TD (dB)", "ODG", title=corpus)
    others = everyone.groupby("method")[["snr_td", "odg"]].mean()
    for row in rank(everyone).to_dict("records"):
        td, grade = others.loc[row["method"]]
        interval = f"{row['low']:.2f} to {row['high']:.2f}"
        shown.add_row(str(row["rank"]), row["method"], f"{row['mean']:.2f}", interval, f"{td:.2f}", f"{grade:.2f}")
    console.print(shown)


@app.command()
def release(
    corpus: Annotated[list[str] | None, typer.Argument(help="Scored corpora; both quick ones if left out.")] = None,
) -> None:
    """Copy scores from results/ to scores/, and make README's table and picture of them."""
    from ctxe_lib import released

    try:
        written = [released.release(name) for name in corpus or released.CORPORA.values()] + released.write_readme()
    except (FileNotFoundError, ValueError) as error:
        raise _fail(error) from None
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)


def _scored(corpus: str) -> Any:
    """A corpus, the scores of the methods on its test segments, and their record."""
    from ctxe_lib.corpus import Corpus
    from ctxe_lib.paths import data_folder
    from ctxe_lib.released import scored

    return Corpus.open(data_folder() / corpus), *scored(corpus)


def _write_results(make: Callable[..., Any], output: Path, corpus: str, **options: Any) -> None:
    """Make a table of results of a corpus, and say so or what is in the way."""
    from ctxe_lib.corpus import Corpus
    from ctxe_lib.paths import data_folder

    try:
        if output.suffix != ".parquet":
            raise ValueError(f"output {output} must end in .parquet")
        make(Corpus.open(data_folder() / corpus), output, **options)
    except (FileNotFoundError, ValueError) as error:
        raise _fail(error) from None
    console.print(f"wrote {output}", soft_wrap=True)


if __name__ == "__main__":
    app()
