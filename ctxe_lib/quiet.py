"""Standard error without what TensorFlow's compiled parts say at every start.

They say it before any setting of their log level takes effect, so it is filtered line by line. Whatever else is
written there comes through at once, also when the process dies.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

__all__ = ["quiet_import", "quiet_stderr", "without_greeting"]

_GREETING = r"^(I[0-9]{4} |WARNING: All log messages before absl|To enable the following instructions)"


def without_greeting(text: str) -> str:
    """The lines of a text that are not TensorFlow's greeting."""
    return "".join(line for line in text.splitlines(keepends=True) if not re.match(_GREETING, line))


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Leave TensorFlow's greeting out of what this process and those it starts write to standard error meanwhile."""
    sys.stderr.flush()
    own = os.dup(2)
    command = ["grep", "--text", "--line-buffered", "--invert-match", "--extended-regexp", _GREETING]
    environment = os.environ | {"LC_ALL": "C"}
    # In a group of its own: an interrupt from the keyboard is not for the filter.
    grep = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=own, env=environment, process_group=0)
    assert grep.stdin is not None
    os.dup2(grep.stdin.fileno(), 2)
    grep.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(own, 2)
        os.close(own)
        with suppress(subprocess.TimeoutExpired):  # a process that was started meanwhile and lives on keeps its filter
            grep.wait(timeout=5)


class _QuietLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with quiet_stderr():
            super().exec_module(module)


class _QuietFinder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _QuietLoader(spec.loader.name, spec.loader.path)
        return spec


def quiet_import() -> None:
    """Have TensorFlow imported without its greeting, whoever imports it, and log only what is fatal from then on."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not any(isinstance(finder, _QuietFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietFinder())
