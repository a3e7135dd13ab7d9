"""Fuzzer of the picture decoder: python -m tests.fuzz.pictures --seconds 60.

Two child processes decode the same files. Their allocators fill memory with different bytes (glibc's MALLOC_PERTURB_),
so an unwritten pixel is a difference. Each result is compared with Pillow's. Files are made by mutation without
coverage, since the decoders are compiled.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image, ImageOps

from tests.fuzz.picture_corpus import corpus, mutated
from triptych.contract import Scope
from triptych.contract.steps.pictures.decode_image import DecodeImage
from triptych.errors import InvalidInput

Array = np.ndarray[Any, Any]

BATCH = 200  # files between two reports of a child
MAX_PIXELS = 1_000_000
MAX_S = 2.0  # CPU for one file
MAX_GROWTH_BYTES = 64 * 2**20
FILLINGS = (0x55, 0xA9)
FOUND = Path("fuzz-found")

_decode = DecodeImage(op="decode_image", input="image", max_pixels=MAX_PIXELS).function(Scope())


def ours(data: bytes) -> tuple[Array | None, str]:
    """Decoded picture, or the text of a refusal. Any other exception is a finding."""
    files = np.empty(1, np.object_)
    files[0] = data
    try:
        return _decode(files)[0], ""
    except InvalidInput as error:
        return None, str(error)


def pillows(data: bytes) -> tuple[Array | None, str]:
    """Picture decoded by Pillow, or its refusal."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > MAX_PIXELS:
                return None, "too large"
            first = image.info.get("exif")
            image.load()
            if first is not None:  # Pillow takes the last of several eXIf, also one with a wrong checksum
                image.info["exif"] = first
            # Pillow takes some other words for the start of TIFF data: of BigTIFF, and with bytes in the wrong order.
            turned = ImageOps.exif_transpose(image) if _has_tiff(image.info.get("exif", b"")) else image
            if turned.mode.startswith("I"):  # 16 bit
                return np.repeat((np.asarray(turned) >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=2), ""
            return np.asarray(turned.convert("RGB")), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _has_tiff(exif: bytes) -> bool:
    return exif.removeprefix(b"Exif\0\0").startswith((b"II*\0", b"MM\0*"))


def fault_of(data: bytes) -> tuple[str, str, str]:
    """Fault, our outcome, and its comparison with Pillow."""
    started_s = time.thread_time()
    picture, refusal = ours(data)
    took_s = time.thread_time() - started_s
    outcome = refusal if picture is None else f"{picture.shape} {hashlib.sha256(picture.tobytes()).hexdigest()}"
    if took_s > MAX_S:
        return f"took {took_s:.1f} s", outcome, "slow"
    other, why = pillows(data)
    if picture is None:
        return "", outcome, "refused by both" if other is None else "refused by us alone"
    if other is None:
        missing = ("truncated" in why or "data stream" in why) and "APNG" not in why  # no animation is read here
        return f"Pillow refuses: {why}" if missing else "", outcome, f"accepted by us alone: {why[:60]}"
    if picture.shape != other.shape:
        return f"{picture.shape}, Pillow has {other.shape}", outcome, "another shape"
    difference = int(np.abs(picture.astype(np.int16) - other).max())
    return f"differs from Pillow's by {difference}" if difference > 2 else "", outcome, "the same"


def child(seed: int) -> None:
    """Decode endlessly, and print a line per batch: memory, digest of the outcomes, counts, findings."""
    warnings.simplefilter("ignore")
    files, process = corpus(), psutil.Process()
    batch = 0
    while True:
        digest, counts = hashlib.sha256(), Counter[str]()
        finds: dict[int, str] = {}
        for number in range(batch * BATCH, (batch + 1) * BATCH):
            fault, outcome, compared = fault_of(file_of(seed, number, files))
            digest.update(outcome.encode())
            counts[compared] += 1
            if fault:
                finds[number] = fault
        line = {"bytes": process.memory_info().rss, "digest": digest.hexdigest(), "counts": counts, "finds": finds}
        print(json.dumps(line), flush=True)
        batch += 1


def file_of(seed: int, number: int, files: list[bytes]) -> bytes:
    rng = random.Random(f"{seed}/{number}")
    return mutated(rng.choice(files), files, rng)


def child_process(filling: int, *arguments: str) -> subprocess.Popen[str]:
    """Start this Python with an allocator that fills all memory, large pieces included."""
    environ = {**os.environ, "MALLOC_PERTURB_": str(filling), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ)


def output_of(code: str, filling: int) -> str:
    return child_process(filling, "-c", code).communicate()[0]


def run(seconds: float, seed: int, batches: float = float("inf")) -> int:
    """Run the fuzzer, and return the number of findings; each is saved as a file."""
    arguments = ("-m", "tests.fuzz.pictures", "--child", "--seed", str(seed))
    children = [child_process(filling, *arguments) for filling in FILLINGS]
    files, counts, finds = corpus(), Counter[str](), 0
    memory: list[int] = []
    until_s = time.monotonic() + seconds
    try:
        while time.monotonic() < until_s and len(memory) < batches:
            lines = [child.stdout.readline() for child in children if child.stdout]
            if not all(lines):
                print(f"a child ended in batch {len(memory)} of seed {seed}: {[child.poll() for child in children]}")
                finds += 1
                break
            reports = [json.loads(line) for line in lines]
            for number, fault in reports[0]["finds"].items():
                keep(file_of(seed, int(number), files), fault)
            finds += len(reports[0]["finds"])
            if reports[0]["digest"] != reports[1]["digest"]:
                finds += 1
                print(f"an answer depends on memory that nobody wrote: batch {len(memory)} of {BATCH}, seed {seed}")
            counts.update(reports[0]["counts"])
            memory.append(max(report["bytes"] for report in reports))
    finally:
        for running in children:
            running.kill()
            running.communicate()
    return finds + summary(counts, memory)


def summary(counts: Counter[str], memory: list[int]) -> int:
    """Print a summary. Return 1 if memory has grown."""
    print(f"{len(memory) * BATCH} files, each decoded twice")
    for name, count in counts.most_common():
        print(f"{count:10} {name}")
    if not memory:
        return 0
    settled = memory[min(len(memory) - 1, 20)]
    print(f"memory {settled >> 20} MiB after the first batches, {memory[-1] >> 20} MiB at the end")
    return int(memory[-1] - settled > MAX_GROWTH_BYTES)


def keep(data: bytes, fault: str) -> None:
    FOUND.mkdir(exist_ok=True)
    path = FOUND / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    print(f"{path}: {fault}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", action="store_true")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.seed)
    raise SystemExit(1 if run(arguments.seconds, arguments.seed) else 0)


if __name__ == "__main__":
    main()
