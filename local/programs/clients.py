"""Clients of other languages (`tests/clients`), built once into the cache for the tests that need them.

    python -m local.programs.clients [ordinary|conformance]

builds the clients whose toolchain is there: Go, Java with Maven, Node with npm.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.environments import ROOT, cache_folder, locked
from local.errors import LocalError

SOURCES = ROOT / "tests" / "clients"
BUILD_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Client:
    """One client: the tools and commands that build it, and the command that calls it in its folder."""

    language: str
    tools: tuple[str, ...]
    build: tuple[tuple[str, ...], ...]
    command: Callable[[Path], list[str]]

    def folder(self) -> Path:
        """The build folder, named after a digest of the sources."""
        digest = hashlib.sha256()
        for path in sorted(path for path in self.sources().rglob("*") if path.is_file()):
            digest.update(path.read_bytes())
        return cache_folder() / f"client-{self.language}-{digest.hexdigest()[:12]}"

    def sources(self) -> Path:
        return SOURCES / self.language


CLIENTS = {
    client.language: client
    for client in (
        Client("go", ("go",), (("go", "build", "-o", "client", "."),), lambda folder: [str(folder / "client")]),
        Client(
            "java",
            ("javac", "java", "mvn"),
            (
                ("mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"),
                ("javac", "-cp", "lib/*", "-d", ".", "Client.java"),
            ),
            lambda folder: ["java", "-cp", f"{folder}:{folder}/lib/*", "Client"],
        ),
        Client("node", ("node", "npm"), (("npm", "ci"),), lambda folder: ["node", str(folder / "client.js")]),
    )
}


def _go(name: str, package: str) -> Client:
    return Client(name, ("go",), (("go", "build", "-o", "client", package),), lambda folder: [str(folder / "client")])


# Conformance of a server: h2spec, and gRPC's interop cases by grpc-go's own client and by one of ours on @grpc/grpc-js.
# The clients of grpc-java and grpc-node for these cases are in no registry (io.grpc:grpc-interop-testing has no jar).
CONFORMANCE = {
    client.language: client
    for client in (
        _go("h2spec", "github.com/summerwind/h2spec/cmd/h2spec"),
        _go("interop-go", "google.golang.org/grpc/interop/client"),
        Client("interop-node", ("node", "npm"), (("npm", "ci"),), lambda folder: ["node", str(folder / "client.js")]),
    )
}

SETS = {"ordinary": CLIENTS, "conformance": CONFORMANCE}


def find_client(language: str) -> list[str] | None:
    """The command of a client, or None if it has not been built."""
    client = _client(language)
    return client.command(client.folder()) if client.folder().exists() else None


def ensure_client(language: str) -> list[str]:
    """The command of a client, which is built if it is missing. Raises `LocalError` if that fails."""
    client = _client(language)
    with locked(f"client-{language}"):
        return find_client(language) or _build(client)


def _client(language: str) -> Client:
    return {**CLIENTS, **CONFORMANCE}[language]


def _build(client: Client) -> list[str]:
    missing = [tool for tool in client.tools if shutil.which(tool) is None]
    if missing:
        raise LocalError(f"{', '.join(missing)}: not on PATH")
    folder = client.folder()
    print(f"building the {client.language} client in {folder} (once)", file=sys.stderr, flush=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache_folder()))
    try:
        shutil.copytree(client.sources(), draft, dirs_exist_ok=True)
        for command in client.build:
            _run(command, draft)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return client.command(folder)


def _run(command: tuple[str, ...], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise LocalError(f"{command[0]}: not built within {BUILD_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        last = ((done.stderr or done.stdout).strip().splitlines() or ["it gives no reason"])[-1]
        raise LocalError(f"{' '.join(command[:2])}: {last}")


def main() -> None:
    """Build each client whose toolchain is there, and name the others."""
    for language in [name for chosen in sys.argv[1:] or ["ordinary"] for name in SETS[chosen]]:
        try:
            ensure_client(language)
        except LocalError as error:
            print(f"{language}: {error}; its tests are skipped", file=sys.stderr)


if __name__ == "__main__":
    main()
