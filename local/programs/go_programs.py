"""Programs that are Go modules: one that is here already, else one that Go builds into the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local.environments import cache_folder, locked
from local.errors import LocalError
from local.programs.found import found_programs

BUILD_TIMEOUT_S = 1800.0
# The flags of the development cluster, so that one build finds the packages of the other in Go's cache.
FLAGS = ("-trimpath", "-ldflags=-s -w")
VARIABLES = {"CGO_ENABLED": "0"}


@dataclass(frozen=True)
class GoProgram:
    """A program and the version that is built; `without` is a clause about what is skipped without it."""

    name: str
    module: str
    version: str
    without: str

    def find(self) -> Path | None:
        """The path of the program, or None."""
        return next((path for path in self._here() if self.fits(path)), None)

    def ensure(self) -> Path:
        """The path of the program, which is built if it is missing. Raises `LocalError` if that fails."""
        with locked(self.name):
            return self.find() or self._build()

    def fits(self, path: Path) -> bool:
        """Whether a program that is here can take the place of the one that is built."""
        return path.exists()

    def _here(self) -> Iterator[Path]:
        yield from found_programs(self.name)
        yield self._folder() / self.name

    def _folder(self) -> Path:
        return cache_folder() / f"{self.name}-{self.version}"

    def _build(self) -> Path:
        go = shutil.which("go")
        if go is None:
            raise LocalError(f"not on PATH, and there is no Go to build it with; {self.without}")
        folder = self._folder()
        print(f"building {self.name} {self.version} in {folder} (once)", file=sys.stderr, flush=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache_folder()))
        try:
            self._install(go, draft)
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return folder / self.name

    def _install(self, go: str, folder: Path) -> None:
        variables = os.environ | VARIABLES | {"GOBIN": str(folder)}
        command = [go, "install", *FLAGS, f"{self.module}@{self.version}"]
        try:
            done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise LocalError(f"not built within {BUILD_TIMEOUT_S:.0f} s; {self.without}") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
            raise LocalError(f"could not be built: {last}; {self.without}")


class Helm(GoProgram):
    """Helm of one major version."""

    def fits(self, path: Path) -> bool:
        return path.exists() and self.version.startswith(f"{_major_version(path)}.")


def _major_version(helm: Path) -> str:
    """The major version that helm says it has, as in `v3`; `none` if it says none."""
    said = subprocess.run([helm, "version", "--short"], capture_output=True, text=True).stdout
    found = re.match(r"v\d+", said)
    return found.group() if found else "none"


SKIPPED = "the tests that call it are skipped"
GRPCURL = GoProgram("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl", "v1.9.3", SKIPPED)
HELM_3 = Helm("helm", "helm.sh/helm/v3/cmd/helm", "v3.22.0", SKIPPED)
HELM_4 = Helm("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.2", SKIPPED)
HELM = GoProgram("helm", HELM_3.module, HELM_3.version, SKIPPED)  # of any version, where that makes no difference
KUBECONFORM = GoProgram("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "v0.8.0", SKIPPED)

GO_PROGRAMS = {"grpcurl": GRPCURL, "helm": HELM, "helm3": HELM_3, "helm4": HELM_4, "kubeconform": KUBECONFORM}
