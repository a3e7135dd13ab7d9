"""Short run of the picture fuzzer, and a check that it finds planted faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.fuzz import pictures
from tests.fuzz.picture_corpus import corpus
from tests.pictures import jpeg, png, smooth


def test_changed_pictures_are_as_in_pillow_or_refused(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(pictures, "FOUND", tmp_path)
    assert pictures.run(seconds=600, seed=7, batches=4) == 0
    printed = capfd.readouterr().out
    assert "800 files, each decoded twice" in printed
    assert "refused by both" in printed
    assert "the same" in printed


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow's
def test_every_file_of_the_corpus_is_served_or_refused_by_name() -> None:
    refusals = [pictures.ours(data)[1] for data in corpus()]
    assert [text for text in refusals if text and "rare chroma subsampling" not in text] == []
    assert len(refusals) - len([text for text in refusals if text]) > 40
    assert [fault for fault, _, _ in map(pictures.fault_of, corpus()) if fault] == []


@pytest.mark.parametrize("data", [png(smooth(24, 16)), jpeg(smooth(24, 16))])
def test_the_fuzzer_finds_a_wrong_pixel_and_a_missing_one(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    right, _ = pictures.ours(data)
    assert right is not None
    wrong = right.copy()
    wrong[3, 5] ^= 0x40
    monkeypatch.setattr(pictures, "ours", lambda _: (wrong, ""))
    assert pictures.fault_of(data)[0] == "differs from Pillow's by 64"
    monkeypatch.setattr(pictures, "ours", lambda _: (right[:-1], ""))
    assert "Pillow has (16, 24, 3)" in pictures.fault_of(data)[0]
    monkeypatch.setattr(pictures, "ours", lambda _: (right, ""))
    assert "Pillow refuses: OSError: image file is truncated" in pictures.fault_of(data[:-40])[0]


def test_the_fuzzer_finds_memory_that_nobody_wrote() -> None:
    """Each child process has other bytes in unwritten memory."""
    code = "import numpy as np, sys; sys.stdout.write(np.empty(5_000, np.uint8)[2_000:4_000].tobytes().hex())"
    seen = {pictures.output_of(code, filling) for filling in pictures.FILLINGS}
    assert len(seen) == 2
    assert np.all([len(set(bytes.fromhex(text))) == 1 for text in seen])
