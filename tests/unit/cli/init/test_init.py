"""`triptych init`: what it makes passes `verify`, and what cannot be served is named with what to do."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from tests import onnx_files as onnx
from triptych.contract import Contract, Plan, load_contract, load_step_files
from triptych.contract.trace import trace
from triptych.contract.verification.onnx_file import OnnxHeader, Tensor
from triptych.contract.verification.repository import validate_repository
from triptych.contract.verification.triton_config import read_config
from triptych.datatypes import Array
from triptych_cli.__main__ import main
from triptych_cli.init.draft import CannotServe, draft_of
from triptych_cli.init.patterns import plain
from triptych_cli.init.render import config_text, contract_text
from triptych_client.homes.onnx_session import predict_by

Init = Callable[..., int]
Named = tuple[str, int, Sequence[int | str] | None]


def header_file(inputs: Sequence[Named], outputs: Sequence[Named]) -> bytes:
    """An ONNX file of a header alone."""
    fields = [(11, each) for each in inputs] + [(12, each) for each in outputs]
    return onnx.model(b"".join(onnx.field(number, onnx.value(*each)) for number, each in fields))


@pytest.fixture
def init(tmp_path: Path) -> Init:
    """Run the command for a file of these bytes; the repository is `models`."""

    def run(data: bytes, *arguments: str) -> int:
        (tmp_path / "file.onnx").write_bytes(data)
        words = ["init", str(tmp_path / "file.onnx"), "--repository", str(tmp_path / "models"), "--family", "f"]
        return main([*words, *arguments])

    return run


def test_a_model_folder_passes_verify(init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(onnx.linear(4, 3)) == 0
    assert init(onnx.linear(4, 3), "--route", "DE-AT", "--max-rows", "7") == 0
    assert f"made: {tmp_path}/models/f/config.pbtxt, {tmp_path}/models/f/1/contract.yaml" in capsys.readouterr().out
    assert init(onnx.linear(4, 3), "--version", "2") == 0
    assert f"made: {tmp_path}/models/f/2/contract.yaml" in capsys.readouterr().out
    assert (tmp_path / "models/f_de_at/1/model.onnx").read_bytes() == onnx.linear(4, 3)
    assert load_contract(tmp_path / "models/f/1/contract.yaml").route == "DEFAULT"


names = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029"), min_size=1, max_size=20
)
datatypes = st.sampled_from(["FP32", "FP16", "FP64", "INT64", "BOOL", "BYTES"])
dims = st.lists(st.none() | st.integers(1, 50), max_size=3).map(tuple)
tensors = st.builds(lambda name, datatype, rest: (name, datatype, rest), names, datatypes, dims)


@settings(max_examples=60, deadline=None)
@given(
    each=st.lists(tensors, min_size=2, max_size=5, unique_by=lambda tensor: tensor[0]),
    first=st.sampled_from([None, 1]),
    count=st.integers(1, 4),
)
def test_whatever_a_file_declares_has_a_configuration_and_a_contract(
    each: list[tuple[str, str, tuple[int | None, ...]]],
    first: int | None,
    count: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = [Tensor(name, datatype, (first, *rest)) for name, datatype, rest in each]
    at = min(count, len(made) - 1)
    draft = draft_of(OnnxHeader(made[:at], frozenset(), made[at:], {}))
    models = tmp_path_factory.mktemp("models")
    (models / "m/1").mkdir(parents=True)
    (models / "m/config.pbtxt").write_text(config_text("m", draft, draft.max_rows or 8), encoding="utf-8")
    text = contract_text("f", "DEFAULT", draft.max_rows or 8, draft, plain(draft))
    (models / "m/1/contract.yaml").write_text(text, encoding="utf-8")
    (models / "m/1/model.onnx").write_bytes(b"....ORTM, whose header nobody reads")
    assert validate_repository(models).problems == []


def test_a_single_value_for_each_row_is_reshaped(init: Init, tmp_path: Path) -> None:
    assert init(onnx.text_identity()) == 0
    assert "dims: [ 1 ] reshape { shape: [  ] }" in (tmp_path / "models/f/config.pbtxt").read_text()
    assert load_contract(tmp_path / "models/f/1/contract.yaml").inputs[0].utf8


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (header_file([("x", 1, None)], [("y", 1, ("n",))]), "'x' has no shape in the file"),
        (header_file([("x", 16, ("n",))], [("y", 1, ("n",))]), "'x' is BF16, want one of BOOL"),
        (header_file([], [("y", 1, ("n",))]), "the file has no input"),
        (b"no model", "file.onnx: is no ONNX model, or not whole: "),
    ],
)
def test_what_cannot_be_served_is_named(
    init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, text: str
) -> None:
    assert init(data) == 1
    assert text in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_map_of_probabilities_is_left_out_with_a_word(init: Init, capsys: pytest.CaptureFixture[str]) -> None:
    fields = [(11, onnx.value("x", 1, ("n", 4))), (12, onnx.value("label", 7, ("n",))), (12, onnx.sequence("scores"))]
    assert init(onnx.model(b"".join(onnx.field(number, each) for number, each in fields))) == 0
    assert "left out: output 'scores' is no tensor" in capsys.readouterr().out
    fields.pop(1)
    with pytest.raises(CannotServe, match="zipmap"):
        draft_of(OnnxHeader([Tensor("x", "FP32", (None, 4))], frozenset(), [Tensor("scores")], {}))


def test_a_model_with_state_takes_one_row(init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [("sound", 1, ("n", 576)), ("state", 1, (2, "n", 128)), ("rate", 7, ())]
    outputs: list[Named] = [("speech", 1, ("n", 1)), ("next", 1, ("a", "b", "c")), ("level", 1, ())]
    assert init(header_file(inputs, outputs)) == 0
    printed = capsys.readouterr().out
    assert "note: the first dimension of 'state' [2, ?, 128], 'rate' [], 'level' [] is not the rows" in printed
    assert "note: the file has no sizes of output 'next': taken from input 'state'" in printed
    contract = load_contract(tmp_path / "models/f/1/contract.yaml")
    shapes = {spec.name: list(spec.shape) for spec in (*contract.model.inputs, *contract.model.outputs)}
    assert shapes == {
        "sound": [-1, 576], "state": [-1, 2, 1, 128], "rate": [-1],
        "speech": [-1, 1], "next": [-1, 2, 1, 128], "level": [-1],
    }  # fmt: skip
    config = (tmp_path / "models/f/config.pbtxt").read_text()
    assert "dims: [ 1, 2, -1, 128 ] reshape { shape: [ 2, -1, 128 ] }" in config
    assert "dims: [ 1, -1, -1, -1 ] reshape { shape: [ -1, -1, -1 ] }" in config  # open where the file is, for Triton
    assert validate_repository(tmp_path / "models").problems == []


@pytest.mark.parametrize(
    ("data", "dims", "shape", "answer"),
    [
        (onnx.linear(rows=4), "dims: [ 1, 4, 2 ] reshape { shape: [ 4, 2 ] }", [-1, 4, 2], None),  # a fixed batch
        (header_file([("x", 1, (3,))], [("y", 1, (3,))]), "dims: [ 1, 3 ] reshape { shape: [ 3 ] }", [-1, 3], [-1, 3]),
        (header_file([("x", 1, (80, "t"))], [("y", 1, ("k", 6))]), "dims: [ 1, 80, -1 ]", [-1, 80, -1], [-1, -1, 6]),
        (header_file([("x", 1, ())], [("y", 1, ("n",))]), "dims: [ 1 ]", [-1], [-1, -1]),
    ],
)
def test_a_file_without_rows_takes_one_row_as_a_whole(
    init: Init,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    data: bytes,
    dims: str,
    shape: list[int],
    answer: list[int] | None,
) -> None:
    assert init(data) == 0
    assert "no input has the rows as its first dimension, there are 'x' [" in capsys.readouterr().out
    assert dims in (tmp_path / "models/f/config.pbtxt").read_text()
    contract = load_contract(tmp_path / "models/f/1/contract.yaml")
    assert contract.max_rows == 1
    assert list(contract.model.inputs[0].shape) == shape
    assert answer is None or list(contract.model.outputs[0].shape) == answer
    assert validate_repository(tmp_path / "models").problems == []


def test_rows_in_another_dimension_are_known_by_their_name(
    init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(header_file([("x", 1, ("batch", 100, "time"))], [("y", 1, ("time", "batch", 4))])) == 0
    assert "the rows are dimension 1 of 'y' [?, ?, 4]: preprocess joins requests" in capsys.readouterr().out
    contract = load_contract(tmp_path / "models/f/1/contract.yaml")
    (output,) = contract.model.outputs
    assert (contract.max_rows, output.shape, output.rows_axis) == (64, (-1, -1, 4), 1)
    config = (tmp_path / "models/f/config.pbtxt").read_text()
    assert "max_batch_size: 0\n" in config
    assert "dims: [ -1, -1, 4 ]" in config
    assert "dims: [ -1, 100, -1 ]" in config


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        ((("time", "Batch_size", "f"), ("layers", "Batch_size")), [1, 1]),
        ((("T", "B", "f"), ("B", "T")), [1, 0]),
        ((("clips", "time"), ("time", "clips")), [0, 1]),  # neither is known: first of the first tensor
        ((("", "time", "f"), ("", "time")), []),  # a fixed batch of 1
    ],
)
def test_the_rows_have_one_name_in_all_tensors(names: tuple[tuple[str, ...], ...], axes: list[int]) -> None:
    x, y = (
        Tensor(name, "FP32", tuple(1 if not dim else None for dim in dims), dims)
        for name, dims in zip("xy", names, strict=True)
    )
    draft = draft_of(OnnxHeader([x], frozenset(), [y], {}))
    assert [each.rows_axis for each in (*draft.inputs, *draft.outputs)] == (axes or [0, 0])
    assert (draft.max_rows, draft.is_batching) == (None if axes else 1, False)


def test_a_recurrent_network_answers_each_row_as_if_it_were_alone(init: Init, tmp_path: Path) -> None:
    assert init(onnx.recurrent()) == 0
    assert validate_repository(tmp_path / "models").problems == []
    plan = Plan(load_contract(tmp_path / "models/f/1/contract.yaml"))
    _, config = read_config(tmp_path / "models/f")
    predict = predict_by(config, tmp_path / "models/f/1")
    random = np.random.default_rng(0)
    sent = {
        "x": random.normal(size=(5, 7, 3)).astype(np.float32),
        "h": random.normal(size=(5, 1, 2)).astype(np.float32),
    }
    *_, answer = trace(plan, sent, {}, predict)
    wanted = np.array([onnx.recurred(x, h[0]) for x, h in zip(sent["x"], sent["h"], strict=True)])
    np.testing.assert_allclose(answer.values["y"], wanted[:, :, None], atol=1e-6)
    np.testing.assert_allclose(answer.values["next"], wanted[:, -1:], atol=1e-6)


def test_files_of_weights_are_copied_too(init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(onnx.external("w/model.data", length="16")) == 1
    assert "which is no file: copy it there" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
    (tmp_path / "w").mkdir()
    (tmp_path / "w/model.data").write_bytes(bytes(16))
    assert init(onnx.external("w/model.data", length="16")) == 0
    assert (tmp_path / "models/f/1/w/model.data").read_bytes() == bytes(16)


@pytest.mark.parametrize("place", ["../model.data", "/model.data"])
def test_files_of_weights_stay_in_the_folder(init: Init, tmp_path: Path, place: str) -> None:
    (tmp_path.parent / "model.data").write_bytes(bytes(16))
    assert init(onnx.external(place, length="16")) == 1
    assert not (tmp_path / "models").exists()


def test_a_published_version_is_not_written_over(
    init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(onnx.linear()) == 0
    before = (tmp_path / "models/f/1/contract.yaml").read_bytes()
    assert init(onnx.linear(), "--like", "tabular") == 1
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "models/f/1/contract.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (header_file([("x", 1, ("n", 5))], [("y", 1, ("n", 2))]), "input 'x' is FP32[4] there, FP32[5] in the file"),
        (header_file([("x", 7, ("n", 4))], [("y", 1, ("n", 2))]), "input 'x' is FP32[4] there, INT64[4] in the file"),
        (header_file([("z", 1, ("n", 4))], [("y", 1, ("n", 2))]), "has no input 'z'"),
        (header_file([("x", 1, ("n", 4))], [("z", 1, ("n", 2))]), "has no output 'z'"),
    ],
)
def test_a_version_of_other_tensors_is_another_model(
    init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str], second: bytes, sentence: str
) -> None:
    assert init(header_file([("x", 1, ("n", 4))], [("y", 1, ("n", 2))])) == 0
    assert init(second, "--version", "2") == 1
    assert f"config.pbtxt is that of all versions of the model, and {sentence}: make it" in capsys.readouterr().err
    assert not (tmp_path / "models/f/2").exists()
    assert init(header_file([("x", 1, ("n", 4))], [("y", 1, ("n", 2))]), "--version", "2") == 0
    assert init(second, "--name", "other", "--family", "g") == 0


def test_a_version_fits_where_the_configuration_is_open(init: Init, tmp_path: Path) -> None:
    assert init(header_file([("x", 1, ("n", "k"))], [("y", 1, ("n", 2))])) == 0
    before = (tmp_path / "models/f/config.pbtxt").read_bytes()
    assert init(header_file([("x", 1, ("n", "k"))], [("y", 1, ("n", 2))]), "--version", "2", "--max-rows", "8") == 0
    assert (tmp_path / "models/f/config.pbtxt").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--family", "Shop", "argument --family: want small letters, digits and _, a letter first"),
        ("--route", "de", "argument --route: want capitals, digits, _ and -, at most 32 characters, got 'de'"),
        ("--name", "a/b", "argument --name: want the name of a folder"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_written(
    init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, sentence: str
) -> None:
    with pytest.raises(SystemExit):
        init(onnx.linear(), option, value)
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_pickle_is_sent_to_the_converter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "churn.pkl").write_bytes(b"\x80\x04K\x01.")
    assert main(["init", str(tmp_path / "churn.pkl"), "--family", "churn"]) == 1
    assert f"; to convert it: --from {tmp_path}/churn.pkl" in capsys.readouterr().err


NETWORK = header_file([("pixels", 1, ("n", 3, 64, 48))], [("logits", 1, ("n", 10))])
CHANNELS_LAST = header_file([("pixels", 2, ("n", "h", "w", 3))], [("logits", 1, ("n", 10))])
YOLO_V5 = header_file([("images", 1, (1, 3, 64, 96))], [("output", 1, (1, 378, 85))])  # 3 of each of 126 cells
YOLOX = header_file([("images", 1, (1, 3, 64, 96))], [("output", 1, (1, 126, 85))])
TEXT = header_file(
    [("input_ids", 7, ("n", "t")), ("attention_mask", 7, ("n", "t"))],
    [("mask", 7, ("n", "t")), ("hidden", 1, ("n", "t", 8))],
)
TEXT_CLASSES = header_file([("input_ids", 6, ("n", 12))], [("logits", 1, ("n", 3))])
SOUND = header_file([("signal", 1, ("n", 1, 400))], [("scores", 1, ("n", 5))])
YOLO = header_file([("images", 1, ("n", 3, 64, 96))], [("output0", 1, ("n", 84, 40))])
TABLE = header_file(
    [("age", 1, ("n", 1)), ("city", 8, ("n", 1))], [("label", 7, ("n",)), ("probabilities", 1, ("n", 3))]
)


WORDS = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "good": 2, "bad": 3}, unk_token="[UNK]")).to_str()


def wav(samples: int, rate: int) -> Array:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(bytes(2 * samples))
    return np.array([file.getvalue()], object)


@pytest.mark.parametrize(
    ("kind", "data", "shape"),
    [
        ("image-classifier", NETWORK, (3, 64, 48)),
        ("image-classifier", CHANNELS_LAST, (224, 224, 3)),
        ("detector", YOLO, (3, 64, 96)),
        ("detector", YOLO_V5, (3, 64, 96)),
        ("detector", YOLOX, (3, 64, 96)),
        ("text", TEXT_CLASSES, (12,)),
        ("tabular", TABLE, (1,)),
    ],
)
def test_a_contract_to_start_from_makes_the_models_input(
    init: Init, tmp_path: Path, kind: str, data: bytes, shape: tuple[int, ...]
) -> None:
    (tmp_path / "tokenizer.json").write_text(WORDS)
    assert init(data, "--like", kind) == 0
    assert validate_repository(tmp_path / "models").problems == []
    contract = load_contract(tmp_path / "models/f/1/contract.yaml")
    plan = Plan(contract, load_step_files(contract, tmp_path / "models/f/1"))
    assert Contract.model_validate_json(contract.canonical_json()) == contract  # as the stages get it
    assert plan.contract.labels["classes"][1] == "class 1"
    assert {spec.shape[1:] for spec in plan.contract.model.inputs} >= {shape} or kind != "tabular"


def test_a_table_whose_model_names_the_class_keeps_that_name(init: Init, tmp_path: Path) -> None:
    named = header_file([("age", 1, ("n", 1))], [("label", 8, ("n",)), ("probabilities", 1, ("n", 3))])
    assert init(named, "--like", "tabular") == 0
    text = (tmp_path / "models/f/1/contract.yaml").read_text()
    assert '- {name: "label", datatype: BYTES, shape: [-1, 1]}' in text
    assert "labels:" not in text
    assert "inputs:  # what a caller sends; -1 is the rows; NaN needs finite: false\n" in text


def test_a_text_model_has_its_tokenizer_beside_the_contract(
    init: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(TEXT, "--like", "text") == 1
    assert "tokenizer.json: no such file; name the tokenizer of the model with --tokenizer" in capsys.readouterr().err
    (tmp_path / "words.json").write_text(WORDS)
    assert init(TEXT, "--like", "text", "--tokenizer", str(tmp_path / "words.json")) == 0
    assert "same size" not in capsys.readouterr().out  # the tokenizer pads
    assert (tmp_path / "models/f/1/tokenizer.json").read_text() == WORDS
    assert "mask" not in [output.name for output in load_contract(tmp_path / "models/f/1/contract.yaml").model.outputs]
    assert validate_repository(tmp_path / "models").problems == []


def test_a_sound_model_takes_files(init: Init, tmp_path: Path) -> None:
    assert init(SOUND, "--like", "audio") == 0
    assert validate_repository(tmp_path / "models").problems == []
    signal = Plan(load_contract(tmp_path / "models/f/1/contract.yaml")).preprocess({"sound": wav(150, 8000)})["signal"]
    assert signal.shape == (1, 1, 400)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text", "want inputs input_ids, and perhaps attention_mask and token_type_ids, of one datatype, got 'x' FP32"),
        ("image-classifier", "want one input FP32 [n,3,height,width] or [n,height,width,3], got 'x' FP32 [-1, 4]"),
        ("detector", "want one input FP32"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    init: Init, capsys: pytest.CaptureFixture[str], kind: str, text: str
) -> None:
    assert init(onnx.linear(4, 3), "--like", kind) == 1
    assert text in capsys.readouterr().err
    assert init(NETWORK, "--like", "detector") == 1
    assert "(YOLOv5, YOLOX), got 'logits' FP32 [-1, 10]" in capsys.readouterr().err
