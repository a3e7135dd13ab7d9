"""kubectl as tests use it, in one namespace."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Kubectl:
    """kubectl against one cluster and namespace."""

    kubeconfig: Path
    namespace: str

    def run(self, *arguments: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(arguments)}: {done.stderr or done.stdout}")
        return done

    def __call__(self, *arguments: str, given: str = "") -> str:
        """What it prints."""
        return self.run(*arguments, given=given).stdout

    def apply(self, text: str) -> str:
        return self("apply", "--filename=-", given=text)

    def refused(self, text: str) -> str:
        """Why the API server does not take it."""
        done = self.run("apply", "--filename=-", given=text, check=False)
        assert done.returncode, f"taken: {text}"
        return done.stderr

    def get(self, kind: str, name: str = "") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", kind, *([name] if name else []), "--output=json"))
        return found


def wait_for(look: Callable[[], T | None], what: str, timeout_s: float = 30.0) -> T:
    """The first answer that is not None or False; fails with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:g} s: {what}")
        time.sleep(0.1)
