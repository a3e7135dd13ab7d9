"""Rollout target: a ServedModel document in a folder, replaced atomically with its comments kept.

The controller that reads the folder says whether the traffic is in force.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from controller.catalog.served_model import DocumentFault, read_documents
from triptych.contract.reading.files import FileError, read_text
from triptych.protocol import controller_pb2 as cp
from triptych_cli.controller_client import ControllerClient, ControllerUnavailable
from triptych_cli.rollout.targets.target import ConcurrentChange, EffectiveTraffic, TargetError
from triptych_cli.rollout.traffic_split import TrafficSplit, active_shares, format_split


class DocumentTarget:
    """The document of one model in a folder."""

    def __init__(self, folder: Path, model: str, client: ControllerClient) -> None:
        self._model, self._client = model, client
        self._path = _find(folder, model)
        self._desired = self.read()
        self._expected = [self._desired]  # two after an interrupted write: either may be there

    @property
    def where(self) -> str:
        return str(self._path)

    def read(self) -> TrafficSplit:
        for item in read_documents(self._path):
            if isinstance(item, DocumentFault):
                raise TargetError(item.text)
            if item.model == self._model:
                return {str(version): percent for version, percent in item.traffic.items()}
        raise TargetError(f"{self._path} has no document about '{self._model}' any more")

    def write(self, traffic: TrafficSplit) -> None:
        if (found := self.read()) not in self._expected:
            raise ConcurrentChange(
                f"{self._path} was changed by someone else, to {format_split(found)}; it is left as it is"
            )
        self._expected = [found, dict(traffic)]
        try:
            text = read_text(self._path)
            line_end = "\r\n" if "\r\n" in text else "\n"  # Git on Windows
            _replace(self._path, rewrite_traffic(text, self._model, traffic).replace("\n", line_end))
        except FileError as error:
            raise TargetError(f"{self._path}: {error}") from error
        except OSError as error:
            raise TargetError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._desired, self._expected = dict(traffic), [dict(traffic)]

    def check_version(self, version: str) -> None:
        model = self._models().get(self._model)
        if model is None or version not in {str(each.version) for each in model.versions}:
            raise TargetError(f"'{self._model}' has no version {version} that can be served{self._reason(version)}")

    def effective_traffic(self) -> EffectiveTraffic:
        model = self._models().get(self._model)
        if model is None:
            return EffectiveTraffic(None, f"'{self._model}' is not served{self._reason('')}")
        traffic = {str(each.version): each.percent for each in model.versions}
        if active_shares(traffic) == active_shares(self._desired):
            return EffectiveTraffic(traffic)
        missing = sorted(version for version in active_shares(self._desired) if not traffic.get(version))
        failures = [text for version in missing if (text := self._failure(version))]
        return EffectiveTraffic(traffic, "; ".join(failures), refused=bool(failures))

    def close(self) -> None:
        self._client.close()

    def _models(self) -> Mapping[str, cp.Model]:
        try:
            return self._client.models()
        except ControllerUnavailable as error:
            raise TargetError(f"{error}; --controller names it") from error

    def _failure(self, version: str) -> str:
        """The controller's reason for a failed load; empty if no load was tried."""
        reason = self._reasons().get(version, "")
        return "" if reason.startswith("not loaded") else reason

    def _reason(self, version: str) -> str:
        reasons = self._reasons()
        text = reasons.get(version) or reasons.get("")
        return f": {text}" if text else ""

    def _reasons(self) -> Mapping[str, str]:
        try:
            return self._client.reasons(self._model)
        except ControllerUnavailable:
            return {}  # only the explanation is missing


def rewrite_traffic(text: str, model: str, traffic: TrafficSplit) -> str:
    """Change the traffic of one document in a file; comments and order stay."""
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        documents = list(yaml.load_all(text.replace("\r\n", "\n")))
    except YAMLError as error:
        raise TargetError(f"not YAML: {error}") from error
    for document in documents:
        if isinstance(document, Mapping) and document["spec"]["model"] == model:
            _set_traffic(document["spec"]["traffic"], traffic)
    while documents and documents[-1] is None:  # behind a last line of ---
        documents.pop()
    out = io.StringIO()
    yaml.dump_all(documents, out)
    return out.getvalue()


def _set_traffic(shares: CommentedSeq, traffic: TrafficSplit) -> None:
    """Change the shares in place; an entry keeps its comment as long as its version stays."""
    for at in reversed(range(len(shares))):
        version = str(shares[at]["version"])
        if version in traffic:
            shares[at]["percent"] = traffic[version]
        else:
            del shares[at]
    there = {str(share["version"]) for share in shares}
    for version, percent in traffic.items():
        if version not in there:
            entry: Any = CommentedMap(version=int(version), percent=percent)
            entry.fa.set_flow_style()
            shares.append(entry)


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically; a symbolic link keeps its destination."""
    path = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode & 0o7777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _find(folder: Path, model: str) -> Path:
    """Find the file with the document. Raises `TargetError` for none, several, or an unreadable folder."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.name[0] != ".")
    except OSError as error:
        raise TargetError(f"{folder}: cannot be read: {error.strerror}; --documents names the folder") from error
    found, faults = [], []
    for path in files:
        for item in read_documents(path):
            if isinstance(item, DocumentFault):
                faults += [item.text] if item.model in ("", model) else []
            elif item.model == model:
                found.append(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(f"'{model}' is in {' and '.join(map(str, found))}; want one document about it")
    seen = f" ({'; '.join(faults)})" if faults else ""
    raise TargetError(
        f"no document about '{model}' in {folder}{seen}; write one that says what is served now, as:\n"
        f"  spec: {{model: {model}, traffic: [{{version: 1, percent: 100}}]}}"
    )
