"""Notices of the controller for the terminal: what is served, why a model is not, and hints about new versions."""

from __future__ import annotations

import json
from pathlib import Path

from controller.catalog.digests import DIFFERS

FORMATS = {  # by the message of the log line
    "catalog built": "models served: {models}, versions: {versions}",
    "catalog fault": "{fault}",
    "version without traffic": "{hint}, as a file in the folder {served_models}",
}


class ControllerNotices:
    """Reads the controller's log from its start on, a part at each look. `served_models` is the folder of hints."""

    def __init__(self, log: Path, served_models: Path | str) -> None:
        self.served_models = served_models
        self._log, self._offset = log, 0
        self.edited = False  # whether a notice was about an edit of a published version, which is ignored

    def new(self) -> list[str]:
        """The sentences that were logged since the last look. A line that is not whole yet waits for the next one."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        sentences = [sentence for line in whole.splitlines() if (sentence := self._sentence(line))]
        self.edited = self.edited or any(DIFFERS in sentence for sentence in sentences)
        return sentences

    def _sentence(self, line: bytes) -> str:
        """The sentence of a line for the reader of a terminal; empty for other lines."""
        try:
            record = json.loads(line)
            return FORMATS[record["message"]].format_map(record | {"served_models": self.served_models})
        except (ValueError, LookupError, TypeError):
            return ""
