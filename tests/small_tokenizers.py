"""Tokenizers of three kinds, trained on a few sentences, and texts that are odd."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ["the quick brown fox jumps over the lazy dog", "Straße über Köln", "naïve café", "1 + 1 = 2", "日本語の文"]
ODD = [
    "", " ", "\0", "a\0b", "the dog", "THE DOG", "unbelievable", "👩‍👩‍👧‍👦 fox 🏳️‍🌈", "e\u0301 é",
    "\u202eabc", "[SEP] [PAD] <pad> </s>",
    "\r\n\t", "\ufeffdog", "日本語", "x" * 5000, "dog " * 2000, "\U0010ffff",
]  # fmt: skip

EMBEDDING = """\
apiVersion: triptych.dev/v1
kind: Contract
family: embedding
max_rows: 8
inputs: [{name: text, datatype: BYTES, shape: [-1]}]
preprocess: [{op: tokenize, input: text, file: tokenizer.json, max_length: 31}]
model:
  inputs: [{name: input_ids, datatype: INT64, shape: [-1, -1]}]
  outputs: [{name: y, datatype: FP32, shape: [-1, 4]}]
outputs: [{name: y, datatype: FP32, shape: [-1, 4]}]
"""


@cache
def bert() -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    ends = [(word, tokenizer.token_to_id(word) or 0) for word in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.enable_padding(length=7, pad_id=0, pad_token="[PAD]")  # of the file, which does not count
    tokenizer.enable_truncation(3)
    return tokenizer


@cache
def roberta() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


@cache
def unigram() -> Tokenizer:
    words = [("<pad>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁the", -3.0), ("dog", -4.0), ("d", -5.0), ("o", -5.0)]
    tokenizer = Tokenizer(models.Unigram(words, unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


KINDS = {"bert": bert, "roberta": roberta, "unigram": unigram}
