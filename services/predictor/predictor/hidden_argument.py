"""An argument that no other user of the machine can read, for a program that takes it from nowhere else.

The system shows the arguments of a process to everyone, and its environment to its user only. So the argument is in the
environment, and a placeholder is among the arguments. A tracer stops the process at its `exec`, before the program
runs, and makes the pointer to the placeholder point into the environment.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

VARIABLE: Final = "PREDICTOR_HIDDEN_ARGUMENT"
_SEIZE, _CONTINUE, _DETACH, _POKE = 0x4206, 7, 17, 5  # requests of ptrace(2)
_OPTIONS: Final = 0x10 | 0x100000  # a stop at an `exec`; if the tracer fails there, the process ends
_AT_EXEC: Final = signal.SIGTRAP | 4 << 8  # the signal of a stop at an `exec`
_ALL: Final = 0x40000000  # of waitpid(2): also processes that are not one's children
_SET_TRACER: Final = 0x59616D61  # of prctl(2)
_STACK, _ENVIRONMENT = 25, 47  # fields 28 and 50 of /proc/<pid>/stat, counted from the one after the name
_WORD: Final = 8  # bytes

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long


def execute(line: Sequence[str], hidden: int, variables: Mapping[str, str]) -> None:
    """Become the program `line[0]`. Its argument number `hidden` cannot be read, if this system permits tracing."""
    if sys.maxsize > 2**32 and _start_tracer(hidden):
        name = line[hidden].partition("=")[0]
        shown = [*line[:hidden], f"{name}=hidden", *line[hidden + 1 :]]
        os.execve(shown[0], shown, {**variables, VARIABLE: line[hidden]})
    os.execve(line[0], list(line), dict(variables))


def _start_tracer(hidden: int) -> bool:
    """Start a process that traces this one until its next `exec`. Returns whether it may."""
    pid = os.getpid()
    (from_tracer, to_parent), (from_parent, to_tracer) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if os.fork() == 0:  # a grandchild: this process would never wait for a child
                os.setsid()
                os.write(to_parent, os.getpid().to_bytes(_WORD, "little"))
                os.read(from_parent, 1)
                _trace(pid, hidden, to_parent)
        os._exit(0)
    with suppress(ChildProcessError):  # where children are ignored, they have no end to wait for
        os.waitpid(child, 0)
    tracer = int.from_bytes(os.read(from_tracer, _WORD), "little")
    _LIBC.prctl(_SET_TRACER, ctypes.c_ulong(tracer), 0, 0, 0)  # where only ancestors may trace otherwise (Yama)
    os.write(to_tracer, b"1")
    traces = os.read(from_tracer, 1) == b"1"
    for end in (from_tracer, to_parent, from_parent, to_tracer):
        os.close(end)
    return traces


def _trace(pid: int, hidden: int, to_parent: int) -> None:
    seized = _LIBC.ptrace(_SEIZE, pid, None, _OPTIONS) == 0
    os.write(to_parent, b"1" if seized else b"0")
    while seized:
        _, status = os.waitpid(pid, _ALL)
        if not os.WIFSTOPPED(status):
            return
        if status >> 8 == _AT_EXEC:
            _redirect(pid, hidden)
            _LIBC.ptrace(_DETACH, pid, None, None)
            return
        _LIBC.ptrace(_CONTINUE, pid, None, os.WSTOPSIG(status))  # a signal before the `exec`


def _redirect(pid: int, hidden: int) -> None:
    """Make an argument of a process that is at its `exec` that of `VARIABLE`. The number of arguments comes first."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    name = f"{VARIABLE}=".encode()
    variables = b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    at = int(fields[_ENVIRONMENT]) + variables.index(b"\0" + name) + len(name)
    _LIBC.ptrace(_POKE, pid, int(fields[_STACK]) + _WORD * (1 + hidden), at)
