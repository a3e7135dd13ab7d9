"""Texts through transformers, as most users of text models do it.

python -m tests.integration.libraries.reference_tokenizer FILE     runs in the environment `transformers`

reads a list of calls as JSON from standard input, and writes ids, masks and types of each to standard output. FILE is a
tokenizer.json. A call has texts, perhaps pairs, a padding token, and the options of transformers.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from transformers import PreTrainedTokenizerFast


def answer(file: str, call: dict[str, Any]) -> list[list[list[int]]]:
    """Ids, mask and types, each a list for each row."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, pad_token=call["pad_token"])
    found = tokenizer(
        call["texts"], call["pairs"] or None, truncation=True, return_token_type_ids=True, **call["options"]
    )
    return [found[name] for name in ("input_ids", "attention_mask", "token_type_ids")]


if __name__ == "__main__":
    print(json.dumps([answer(sys.argv[1], call) for call in json.load(sys.stdin)]))
