"""`python -m examples.ct volume FILE` writes a made-up CT volume, `python -m examples.ct model` the model.

The model needs the environment of examples/own_models, for the package onnx.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

MODEL = Path(__file__).parent / "model-repository/ct_slices/1/model.onnx"


def main(arguments: list[str]) -> int:
    """Write one file. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.ct", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    volume = actions.add_parser("volume", help="write a made-up CT volume")
    volume.add_argument("file", type=Path, help="ends in .nii, or .nii.gz to pack it")
    volume.add_argument("--side", type=int, default=512, help="voxels of a side of a slice; default 512")
    volume.add_argument("--slices", type=int, default=400, help="default 400, which are 200 MB")
    actions.add_parser("model", help=f"write {MODEL.name}")
    given = parser.parse_args(arguments)
    if given.action == "model":
        from examples.ct.model import model

        MODEL.write_bytes(model())
        return 0
    from examples.ct.volume import write_volume

    write_volume(given.file, given.side, given.slices)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
