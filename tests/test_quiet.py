"""TensorFlow's greeting is left out, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctxe_lib.quiet import quiet_stderr, without_greeting

GREETING = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795418773.504013    5570 port.cc:153] oneDNN custom operations are on.
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow
"""
ERRORS = "E0000 00:00:1795418783.770733    5570 cuda_platform.cc:52] failed call to cuInit\nI am \udcff no greeting\n"


def imported(folder: Path, *, then: str = "") -> subprocess.CompletedProcess[str]:
    """Import the library, and then a package named tensorflow that writes to standard error as the real one does."""
    (folder / "tensorflow").mkdir()
    text = (GREETING + ERRORS).encode(errors="surrogateescape")
    (folder / "tensorflow/__init__.py").write_text(f"import os\nos.write(2, {text!r})\n{then}")
    command = [sys.executable, "-c", "import ctxe_lib, tensorflow, os; os.write(2, b'I0000 after')"]
    path = os.pathsep.join([str(folder), str(Path(__file__).parent.parent)])
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, errors="surrogateescape"
    )


def test_errors_come_through(tmp_path: Path) -> None:
    done = imported(tmp_path)
    assert (done.returncode, done.stderr) == (0, ERRORS + "I0000 after"), "filtered during the import, not after it"


def test_last_words_come_through(tmp_path: Path) -> None:
    """A processor without the instructions that TensorFlow needs makes it abort, after it has said so."""
    done = imported(tmp_path, then="os.write(2, b'F0000 needs AVX')\nos.abort()")
    assert done.returncode != 0
    assert done.stderr == ERRORS + "F0000 needs AVX\n"


def test_the_real_one_is_quiet() -> None:
    done = subprocess.run([sys.executable, "-c", "import ctxe_lib, keras"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_exceptions_leave_standard_error_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="known"), quiet_stderr():
        os.write(2, b"I0000 greeting\nheld\n")
        raise ValueError("known")
    os.write(2, b"I0000 free\n")
    assert capfd.readouterr().err == "held\nI0000 free\n"


def test_text() -> None:
    assert without_greeting(GREETING + ERRORS) == ERRORS


@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("0", "0")])
def test_tensorflow_is_to_use_onednn_unless_told_otherwise(given: str | None, found: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {} if given is None else {"TF_ENABLE_ONEDNN_OPTS": given}
    command = [sys.executable, "-c", "import ctxe_lib, os; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"]
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip() == found
