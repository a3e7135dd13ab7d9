"""Calls of kubectl in one namespace, and waiting for a state."""

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
    """kubectl for one cluster and namespace."""

    kubeconfig: Path
    namespace: str

    def run(self, *arguments: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(arguments)}: {done.stderr or done.stdout}")
        return done

    def __call__(self, *arguments: str, given: str = "") -> str:
        """Run kubectl and return its output."""
        return self.run(*arguments, given=given).stdout

    def apply(self, text: str) -> str:
        return self("apply", "--filename=-", given=text)

    def refused(self, text: str) -> str:
        """Apply a manifest that the API server refuses, and return the reason."""
        done = self.run("apply", "--filename=-", given=text, check=False)
        assert done.returncode, f"taken: {text}"
        return done.stderr

    def get(self, kind: str, name: str = "") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", kind, *([name] if name else []), "--output=json"))
        return found


def wait_for(look: Callable[[], T | None], what: str, timeout_s: float = 30.0) -> T:
    """Poll until `look` returns a true value, and return it; fail with `what` after the timeout."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:g} s: {what}")
        time.sleep(0.1)
