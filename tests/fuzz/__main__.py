"""Run one fuzzer by its name: python -m tests.fuzz contracts --seconds 60."""

from __future__ import annotations

import sys

from tests.fuzz import files, http2, pictures, wire

FUZZERS = {"pictures": pictures.main, "wire": wire.main, "http2": http2.main, **dict.fromkeys(files.NAMES, files.main)}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in FUZZERS:
        raise SystemExit(f"want one of {', '.join(FUZZERS)}; got '{name}'")
    if name not in files.NAMES:
        del sys.argv[1]
    raise SystemExit(FUZZERS[name]())


if __name__ == "__main__":
    main()
