"""Several devices give the loss curve of one, and so does a run that was killed; XLA and mixed precision nearly do."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from ctxe_lib.training import Recipe, Trainer, choose_strategy, read_log

RECIPE = Recipe.hybrid(
    "tiny", 12, batch=8, pool=32, validate_every=4, validation_segments=8, cooldown=4,
    options={"width": 8, "blocks": 1, "bins": 64, "iterations": 1, "start": "lpc"},
)  # fmt: skip
SETTINGS = {
    "kind": "hybrid", "corpus": "tiny", "steps": 12, "batch": 8, "pool": 32, "validate-every": 4,
    "validation-segments": 8, "cooldown": 4,
}  # fmt: skip
ARGUMENTS = [
    *(f"--{key}={value}" for key, value in SETTINGS.items()),
    *(f"--option={key}={value}" for key, value in RECIPE.options.items()),
    "--no-progress",
]
TWO_DEVICES = (
    "import tensorflow as tf; cpu = tf.config.list_physical_devices('CPU')[0]; "
    "tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()]); "
)
CURVE = ["step", "loss", "validation_loss", "validation_snr", "validation_snr_td", "rate"]


@pytest.fixture(scope="module")
def whole(tiny_corpus, geometry, tmp_path_factory):
    """The log of an uninterrupted run on one device, in a folder of runs."""
    folder = tmp_path_factory.mktemp("runs")
    Trainer(RECIPE, tiny_corpus, geometry, folder / "whole").train(progress=False)
    return read_log(folder / "whole"), folder


@pytest.fixture
def start(tiny_corpus, whole):
    """Start `ctxe train` in a process of its own; whatever still runs in the end is killed."""
    processes = []

    def run(name, *arguments, before="", **environment):
        command = [sys.executable, "-c", f"{before}from ctxe_lib.cli import app; app()", "train", name, *ARGUMENTS]
        folders = {"CTXE_DATA": str(tiny_corpus.folder.parent), "CTXE_RUNS": str(whole[1])}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen([*command, *arguments], env=os.environ | folders | environment, **output))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def finish(*processes):
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output


def ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    numbers = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return numbers


def test_two_workers_give_the_curve_of_one_and_their_checkpoint_goes_on_with_one(start, whole, tiny_corpus, geometry):
    log, folder = whole
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports(2)]}
    configurations = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(2)]
    finish(*(start("workers", "--until", "8", TF_CONFIG=configuration) for configuration in configurations))
    assert read_log(folder / "workers")["step"].tolist() == [4, 8]
    alone = Trainer(RECIPE, tiny_corpus, geometry, folder / "workers")
    assert alone.step == 8
    alone.train(progress=False)
    np.testing.assert_allclose(read_log(folder / "workers")[CURVE], log[CURVE], rtol=1e-4)


def test_two_devices_of_one_machine_give_the_curve_of_one(start, whole):
    log, folder = whole
    finish(start("mirrored", "--strategy", "mirrored", before=TWO_DEVICES))
    np.testing.assert_allclose(read_log(folder / "mirrored")[CURVE], log[CURVE], rtol=1e-4)


def test_a_batch_that_cannot_be_shared_is_refused(start):
    process = start("odd", "--strategy", "mirrored", "--batch", "7", before=TWO_DEVICES)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "batch=7 cannot be shared equally by 2 devices: take batch=8" in output


def test_a_killed_run_goes_on_to_the_same_curve(start, whole):
    log, folder = whole
    killed = start("killed", "--strategy", "one")
    path = folder / "killed" / "log.jsonl"
    deadline = time.monotonic() + 300
    while not (path.exists() and path.read_text().count("\n")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    resumed = start("killed", "--strategy", "one")
    output, _ = resumed.communicate(timeout=300)
    assert "resuming killed at step" in output, output
    np.testing.assert_array_equal(read_log(folder / "killed")[CURVE], log[CURVE])


@pytest.mark.parametrize(
    ("change", "options", "tolerance"), [({}, {"xla": True}, 1e-4), ({"precision": "mixed"}, {}, 1e-2)]
)
def test_compiled_or_in_bfloat16_the_curve_stays(whole, tiny_corpus, geometry, tmp_path, change, options, tolerance):
    recipe = dataclasses.replace(RECIPE, **change)
    run = Trainer(recipe, tiny_corpus, geometry, tmp_path / "run", **options)
    run.train(progress=False)
    np.testing.assert_allclose(read_log(run.folder)[CURVE], whole[0][CURVE], rtol=tolerance)
    policies = {layer.compute_dtype for layer in run.encoder.model.layers if layer.weights}
    assert policies == {"bfloat16" if change else "float32"}
    assert {v.dtype for v in run.encoder.model.variables + run.averaged.model.variables} == {"float32"}
    assert recipe.precision == json.loads((run.folder / "recipe.json").read_text())["precision"]


def test_workers_need_a_configuration(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=r"TF_CONFIG must list the workers, such as \{"):
        choose_strategy("multiworker")


def test_the_log_says_how_much_of_the_time_was_spent_waiting_for_data(whole, tiny_corpus, geometry, tmp_path):
    waiting = whole[0]["waiting"]
    assert waiting.between(0, 1).all() and waiting.iloc[-1] < 0.2
    slow = Trainer(dataclasses.replace(RECIPE, validate_every=12), tiny_corpus, geometry, tmp_path / "slow")
    slow.train(progress=False, until=1)
    read = slow.source.read

    class Slow:
        def read(self, starts):
            time.sleep(0.3)
            return read(starts)

    slow.source = Slow()
    slow.train(progress=False)
    assert read_log(slow.folder)["waiting"].iloc[-1] > 0.5


@pytest.mark.parametrize("layer", ["keras.layers.BatchNormalization", "networks.FusedBatchNormalization"])
def test_running_statistics_are_the_mean_over_devices(layer):
    script = f"""{TWO_DEVICES}
import keras
from ctxe_lib import networks, training
strategy = training.choose_strategy("mirrored")
with strategy.scope(), tf.variable_creator_scope(training._mean_of_statistics):
    layer = {layer}(momentum=0.0)
    layer.build((None, 4))
values = strategy.experimental_distribute_values_from_function(
    lambda context: tf.fill((2, 4), 1.0 + 2.0 * context.replica_id_in_sync_group)
)
tf.function(lambda x: strategy.run(layer, (x,), {{"training": True}}))(values)
assert (layer.moving_mean.numpy() == 2).all(), layer.moving_mean.numpy()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
