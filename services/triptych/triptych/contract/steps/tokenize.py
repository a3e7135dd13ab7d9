"""The step from texts to the ids that a text model takes. Hugging Face's `tokenizers` does it, loaded at first use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal
from weakref import WeakValueDictionary

import numpy as np
from pydantic import Field

from triptych.contract.specs import Name
from triptych.contract.steps.base import Environment, Facts, KeptBytes, Run, Scope, Step
from triptych.contract.steps.step_file import FilePath, StepFile
from triptych.contract.steps.tokenizer_limits import CACHED_BYTES, READER_BYTES, limit_cache, parts_fault, reading
from triptych.datatypes import TO_NUMPY, Array, describe_array
from triptych.errors import ContractViolation, InvalidInput
from triptych.runtime.cancellation import check_cancelled

PAD_TOKENS: Final = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")
WORK: Final = 16  # times the bytes of a text: 4 KiB take 3 ms, which is too long for the event loop (2026-11-30)
BATCH_BYTES: Final = 1 << 18  # of texts encoded at once: a byte takes 48 to 100 in the library (2026-11-30)
MAX_TEXT_BYTES: Final = 1 << 20

_OF_LIBRARY: Final = "Cannot instantiate Tokenizer from buffer: "

Side = Literal["left", "right"]


class Tokenize(Step):
    """Texts (BYTES [n], UTF-8) to ids, mask and types [n,t], by a tokenizer.json of Hugging Face's `tokenizers`.

    Special tokens are added. A text of more than `max_length` tokens, theirs included, is cut as transformers'
    `truncation=True` cuts it, or refused. With `pair`, two texts become one row. Padding and truncation that the file
    states do not count, except for the padding token and side.

    With `padding: longest` t is the length of the longest row of the batch, so that a model has to use the mask.
    """

    READS = ("input", "pair")
    WRITES = ("input_ids", "attention_mask", "token_type_ids")
    FILES = ("file",)

    op: Literal["tokenize"]
    input: Name
    pair: Annotated[Name | None, Field(description="second text of each row, as for a cross-encoder")] = None
    file: FilePath
    max_length: Annotated[int, Field(ge=1, le=32_768, description="most tokens of a row")]
    too_long: Annotated[Literal["cut", "refuse"], Field(description="what to do with more tokens")] = "cut"
    padding: Literal["longest", "max_length"] = "longest"
    padding_side: Annotated[Side | None, Field(description="that of the file when left out, else right")] = None
    pad_token: Annotated[
        str | None, Field(min_length=1, description="that of the file when left out, else [PAD] or <pad>")
    ] = None
    max_bytes: Annotated[int, Field(ge=1, le=MAX_TEXT_BYTES, description="of each text")] = 65_536
    max_request_tokens: Annotated[
        int, Field(ge=1, le=1 << 26, description="of one request, each row filled up to the longest")
    ] = 1 << 20
    datatype: Literal["INT32", "INT64"] = "INT64"
    input_ids: Name = "input_ids"
    attention_mask: Annotated[Name, Field(description="1 for a token, 0 for padding")] = "attention_mask"
    token_type_ids: Annotated[Name, Field(description="1 for the second text of a pair")] = "token_type_ids"

    def check(self, scope: Scope, facts: Mapping[str, Facts]) -> Iterator[tuple[str, str]]:
        names = list(self.writes())
        for field_, name in zip(self.WRITES, names, strict=True):
            if names.count(name) > 1:
                yield field_, f"'{name}' is the name of more than one result"

    def examples(self) -> dict[str, object]:
        return {name: b"a text" for name in (self.input, self.pair) if name is not None}

    def unpacked_bytes(self, inputs: Mapping[str, Array]) -> int:
        arrays = [inputs[name] for name in (self.input, self.pair) if name is not None and name in inputs]
        return WORK * sum(len(text) for array in arrays if array.dtype == np.object_ for text in array.flat)

    def row_bytes(self) -> int:
        return 3 * self.max_length * TO_NUMPY[self.datatype].itemsize

    def made_bytes(self, env: Environment) -> int:
        return env.rows * self.row_bytes()

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        width = self.max_length if self.padding == "max_length" else None
        return dict.fromkeys(self.writes(), Facts(width=width))

    def reading_fault(self, scope: Scope, max_bytes: int, max_s: float) -> str:
        file = scope.file(self.file)
        if (file.digest, self.max_length, self.pair is not None) in _TOKENIZERS:
            return ""
        fault = reading(file.content, max_bytes, max_s, self.max_bytes).fault
        return fault and f"{self.file} {fault}"

    def kept_bytes(self, scope: Scope, max_bytes: int, max_s: float) -> KeptBytes:
        file = scope.file(self.file)
        found = reading(file.content, READER_BYTES + max_bytes, max_s)
        if found.fault:
            raise ContractViolation(f"{self.file} {found.fault}")
        name = f"tokenizer {file.digest} {self.max_length} {self.pair is not None}"
        return KeptBytes(shared={name: found.kept_bytes + CACHED_BYTES})

    def compile(self, scope: Scope) -> Run:
        tokenizer = _tokenizer(self.file, scope.file(self.file), self.max_length, self.pair is not None)
        if fault := parts_fault(tokenizer.library, self.max_bytes):
            raise ContractViolation(f"{self.file} {fault}")
        pad_id, pad_type_id, left = self._padding(tokenizer)
        names, dtype = (self.input_ids, self.attention_mask, self.token_type_ids), TO_NUMPY[self.datatype]

        def run(env: Environment) -> None:
            texts: Sequence[Any] = self._texts(env, self.input)
            if self.pair is not None:
                texts = list(zip(texts, self._texts(env, self.pair), strict=True))
            found = self._encoded(tokenizer, texts, dtype)
            longest = max((each.shape[1] for each in found), default=0)
            width = self.max_length if self.padding == "max_length" else longest
            if (count := len(found) * width) > self.max_request_tokens:
                most = f"at most {self.max_request_tokens} tokens in one request, each row filled up to the longest"
                raise InvalidInput(self.input, most, f"{count}")
            arrays = [np.full((len(found), width), filler, dtype) for filler in (pad_id, 0, pad_type_id)]
            for row, each in enumerate(found):
                count = each.shape[1]
                place = slice(width - count, width) if left else slice(0, count)
                for array, values in zip(arrays, each, strict=True):
                    array[row, place] = values
            env.update(zip(names, arrays, strict=True))

        return run

    def _encoded(self, tokenizer: _Tokenizer, texts: Sequence[Any], dtype: Any) -> list[Array]:
        """Ids, mask and types [3,t] of each text or pair, at most `max_length` of them. Raises `InvalidInput`."""
        rows = list[Array]()
        for batch in batches(texts):
            check_cancelled()
            for each in tokenizer.encode(batch):
                values = np.array((each.ids, each.attention_mask, each.type_ids), dtype)
                if values.shape[1] > self.max_length:
                    if self.too_long == "refuse":
                        raise InvalidInput(self.input, f"at most {self.max_length} tokens", f"row {len(rows)}: more")
                    values = values[:, tokenizer.kept(each.sequence_ids)]
                rows.append(values)
        return rows

    def _padding(self, tokenizer: _Tokenizer) -> tuple[int, int, bool]:
        """Id and type of the padding, and whether it stands on the left. Raises `ContractViolation`."""
        stated = tokenizer.padding
        side = self.padding_side or stated.get("direction", "right")
        known = (self.pad_token,) if self.pad_token else (stated.get("pad_token"), *PAD_TOKENS)
        for token in known:
            if token is not None and (found := tokenizer.id_of(token)) is not None:
                return found, stated.get("pad_type_id", 0), side == "left"
        text = f"has no token '{self.pad_token}'" if self.pad_token else "states no padding; name its pad_token"
        raise ContractViolation(f"{self.file} {text}")

    def _texts(self, env: Environment, name: str) -> list[str]:
        """The texts of a value. Raises `InvalidInput` for one that is too long or not UTF-8."""
        values = env[name]
        if values.dtype != np.object_ or values.ndim != 1:
            raise ContractViolation(f"tokenize: '{name}': want BYTES[n], got {describe_array(values)}")
        texts = []
        for row, value in enumerate(values):
            if len(value) > self.max_bytes:
                raise InvalidInput(name, f"at most {self.max_bytes} bytes of text", f"row {row}: {len(value)} bytes")
            try:
                texts.append(value.decode())
            except UnicodeDecodeError as error:
                got = f"row {row}: byte 0x{value[error.start]:02x} at {error.start}"
                raise InvalidInput(name, "text in UTF-8", got) from None
        return texts


def batches(texts: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The texts or pairs in their order, as many at once as have `BATCH_BYTES`, at least one."""
    start = size_bytes = 0
    for at, text in enumerate(texts):
        own_bytes = len(text) if isinstance(text, str) else sum(map(len, text))
        if size_bytes + own_bytes > BATCH_BYTES and at > start:
            yield texts[start:at]
            start, size_bytes = at, 0
        size_bytes += own_bytes
    if start < len(texts):
        yield texts[start:]


def kept_of(lengths: Sequence[int], most: int) -> Sequence[int]:
    """Tokens that stay of a text, or of each text of a pair, the longer one cut first, as by the library."""
    if sum(lengths) <= most:
        return lengths
    if len(lengths) == 1:
        return (most,)
    shorter = min(lengths)
    if shorter > most:
        short, long = shorter, shorter
    else:
        short, long = shorter, max(shorter, most - shorter)
    if short + long > most:
        short, long = most // 2, most - most // 2
    return (long, short) if lengths[0] > lengths[1] else (short, long)


class _Tokenizer:
    """A tokenizer of the library for rows of at most `max_length` tokens. Any thread may use it.

    The library does not cut: it keeps what it cuts off, and of a pair every combination of the parts. A pair of 64 KiB
    each took more than 20 GiB (2026-11-30).
    """

    def __init__(self, path: str, file: StepFile, max_length: int, pairs: bool) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # our thread pool has the threads
        from tokenizers import Tokenizer

        self._path = path
        try:
            self.library = Tokenizer.from_buffer(file.content)
            self.padding: Mapping[str, Any] = self.library.padding or {}
            limit_cache(self.library)
            self.library.no_padding()
            self.library.no_truncation()
        except BaseException as error:
            raise self._failure(error, "is no tokenizer.json") from None
        # Without a post-processor the fast way gives the second text of a pair the type 0 (tokenizers 0.23.3).
        is_fast = not pairs or self.library.post_processor is not None
        self._encode = self.library.encode_batch_fast if is_fast else self.library.encode_batch
        if max_length <= (special := self.library.num_special_tokens_to_add(pairs)):
            raise ContractViolation(f"max_length: want more than the {special} special tokens of {path}")
        self._texts, self._most = 1 + pairs, max_length - special

    def id_of(self, token: str) -> int | None:
        found: int | None = self.library.token_to_id(token)
        return found

    def encode(self, texts: Sequence[Any]) -> Sequence[Any]:
        """One `Encoding` for each text or pair. Raises `ContractViolation`."""
        try:
            encodings: Sequence[Any] = self._encode(texts)
            return encodings
        except BaseException as error:
            raise self._failure(error, "cannot encode a text") from None

    def kept(self, sequence_ids: Sequence[int | None]) -> Array:
        """Places [t] of the tokens that stay of too long an encoding. These are their texts, None for special ones."""
        of = np.array([-1 if each is None else each for each in sequence_ids])
        places = [np.flatnonzero(of == text) for text in range(self._texts)]
        stays = of == -1
        for found, count in zip(places, kept_of([len(each) for each in places], self._most), strict=True):
            stays[found[:count]] = True
        return np.flatnonzero(stays)

    def _failure(self, error: BaseException, what: str) -> BaseException:
        """The error of the library, also a panic, which is no `Exception`."""
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            return ContractViolation(f"{self._path} {what}: {str(error).removeprefix(_OF_LIBRARY):.200}")
        return error


# Versions with one tokenizer share it: that of a vocabulary of 30,000 words takes 2.5 MB.
_TOKENIZERS: WeakValueDictionary[tuple[str, int, bool], _Tokenizer] = WeakValueDictionary()


def _tokenizer(path: str, file: StepFile, max_length: int, pairs: bool) -> _Tokenizer:
    key = (file.digest, max_length, pairs)
    tokenizer = _TOKENIZERS.get(key)
    if tokenizer is None:
        tokenizer = _TOKENIZERS[key] = _Tokenizer(path, file, max_length, pairs)
    return tokenizer


STEPS: Final[tuple[type[Step], ...]] = (Tokenize,)
