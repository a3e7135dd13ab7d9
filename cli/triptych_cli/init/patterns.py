"""Contracts to start from: what a caller sends, the steps, and what the caller gets, each item a line of YAML."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from triptych_cli.init.draft import CannotServe, Draft, DraftTensor

SIDE: Final = 224  # of a picture whose size the file leaves open
MAX_LABELS: Final = 2000
IMAGENET: Final = "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]"
PIXEL: Final = 0.00392156862745098  # 1/255
YOLO_BOXES: Final = 4  # x, y, width, height before the scores of the classes
STRIDES: Final = (8, 16, 32)  # of the grids of YOLO, in pixels
ANCHORS: Final = 3  # of each cell, in YOLOv5
YOLO_SCALE: Final = "one_factor: true"  # as Ultralytics' code
YOLOX_SCALE: Final = "rounding: down, position: start, one_factor: true"
NOTHING: Final = "nothing"
TOKENS: Final = 256  # of a text, where the file leaves it open
RATE: Final = 16_000  # of speech models, in Hz


@dataclass(frozen=True)
class Pattern:
    """The parts of a contract that depend on the kind of model."""

    inputs: Sequence[str]
    preprocess: Sequence[str] = ()
    postprocess: Sequence[str] = ()
    outputs: Sequence[str] = ()
    labels: Sequence[str] = ()
    needs_tokenizer: bool = False
    model_outputs: Sequence[DraftTensor] | None = None  # those that are needed; None for all


def plain(draft: Draft) -> Pattern:
    """The caller sends the model's inputs and gets its outputs."""
    return Pattern(
        inputs=[_declared(tensor, ", utf8: true" if tensor.datatype == "BYTES" else "") for tensor in draft.inputs],
        outputs=[_declared(tensor) for tensor in draft.outputs],
    )


def tabular(draft: Draft) -> Pattern:
    """The inputs as they are; of scores [n,classes] the class with the best one, by name, unless the model names it."""
    base, scores = plain(draft), [tensor for tensor in draft.outputs if _is_scores(tensor)]
    if len(scores) != 1 or any(tensor.datatype == "BYTES" for tensor in draft.outputs):
        return base
    name, classes = scores[0].name, scores[0].dims[0]
    return Pattern(
        inputs=base.inputs,
        postprocess=[
            f"{{op: argmax, input: {_q(name)}, output: class_id}}",
            "{op: label, input: class_id, labels: classes, output: class}",
        ],
        outputs=[
            "{name: class, datatype: BYTES, shape: [-1]}",
            _declared(scores[0], ", description: the score of each class"),
        ],
        labels=_labels(classes),
    )


def image_classifier(draft: Draft) -> Pattern:
    """A picture file, prepared as for networks trained on ImageNet; the five best classes."""
    picture, scores = _picture(draft), [tensor for tensor in draft.outputs if _is_scores(tensor)]
    if len(scores) != 1:
        raise CannotServe(f"image-classifier: want one output FP32 [n,classes], got {_shapes(draft.outputs)}")
    (name, classes), k = (scores[0].name, scores[0].dims[0]), min(5, scores[0].dims[0])
    edge = max(picture.height, picture.width) * 8 // 7
    return Pattern(
        inputs=[PICTURE],
        preprocess=[
            "{op: decode_image, input: image, output: picture}",
            f"{{op: resize, input: picture, shortest_edge: {edge}, interpolation: linear, antialias: true}}",
            f"{{op: crop, input: picture, center: [{picture.width}, {picture.height}]}}",
            f"{{op: normalize, input: picture, scale: {PIXEL}, {IMAGENET}}}  # as the network was trained",
            picture.layout("picture"),
        ],
        postprocess=[
            f"{{op: softmax, input: {_q(name)}, output: probability}}",
            f"{{op: top_k, input: probability, k: {k}, output: score, indices: class_id}}",
            "{op: label, input: class_id, labels: classes, output: class}",
        ],
        outputs=[
            f"{{name: class, datatype: BYTES, shape: [-1, {k}]}}",
            f"{{name: score, datatype: FP32, shape: [-1, {k}]}}",
        ],
        labels=_labels(classes),
    )


def detector(draft: Draft) -> Pattern:
    """A picture file in a letterbox; boxes of one output as YOLOv8 and later, YOLOv5 or YOLOX have it."""
    picture = _picture(draft)
    layout = _boxes_of(draft, picture)
    undo = f"{picture.size}, {YOLOX_SCALE if layout.is_yolox else YOLO_SCALE}"
    return Pattern(
        inputs=[PICTURE],
        preprocess=_yolox_picture(picture) if layout.is_yolox else _letterbox(picture),
        postprocess=[
            *layout.steps,
            "{op: nms, boxes: proposed, scores: scores, format: cxcywh, output: box, score: score, class_id: class_id, "
            "count: count}",
            f"{{op: scale_boxes, input: box, size: size, {undo}}}",
            f"{{op: label, input: class_id, labels: classes, none: {NOTHING}, output: class}}",
        ],
        outputs=[
            '{name: box, datatype: FP32, shape: [-1, 100, 4], description: "x1, y1, x2, y2 in pixels of the picture"}',
            "{name: score, datatype: FP32, shape: [-1, 100]}",
            "{name: class, datatype: BYTES, shape: [-1, 100]}",
            "{name: count, datatype: INT32, shape: [-1], description: boxes that were found}",
        ],
        labels=_labels(layout.classes),
    )


@dataclass(frozen=True)
class _Boxes:
    """The layout of a detector's output: the steps to `proposed` boxes and `scores`."""

    classes: int
    steps: Sequence[str]
    is_yolox: bool = False


def _boxes_of(draft: Draft, picture: _Picture) -> _Boxes:
    """Raises `CannotServe` if there is no such output."""
    output, cells = draft.outputs[0], sum((picture.width // s) * (picture.height // s) for s in STRIDES)
    if len(draft.outputs) == 1 and len(output.dims) == 2:
        first, last = output.dims
        if last > YOLO_BOXES + 1 and first in (cells, ANCHORS * cells):
            return _with_objectness(output, last - YOLO_BOXES - 1, picture, is_yolox=first == cells)
        if first > YOLO_BOXES:
            return _Boxes(
                first - YOLO_BOXES,
                [
                    f"{{op: transpose, input: {_q(output.name)}, order: [2, 1], output: found}}",
                    f"{{op: slice, input: found, axis: 2, stop: {YOLO_BOXES}, output: proposed}}",
                    f"{{op: slice, input: found, axis: 2, start: {YOLO_BOXES}, output: scores}}",
                ],
            )
    raise CannotServe(
        "detector: want one output FP32 [n,4+classes,boxes] (YOLOv8), or [n,boxes,5+classes] of all cells (YOLOv5, "
        f"YOLOX), got {_shapes(draft.outputs)}"
    )


def _with_objectness(output: DraftTensor, classes: int, picture: _Picture, *, is_yolox: bool) -> _Boxes:
    name, strides = _q(output.name), json.dumps(STRIDES)
    steps = [
        f"{{op: slice, input: {name}, axis: 2, stop: {YOLO_BOXES}, output: proposed}}",
        f"{{op: slice, input: {name}, axis: 2, start: {YOLO_BOXES}, stop: {YOLO_BOXES + 1}, output: objectness}}",
        f"{{op: slice, input: {name}, axis: 2, start: {YOLO_BOXES + 1}, output: scores}}",
        "{op: multiply, inputs: [objectness, scores], output: scores}",
    ]
    if is_yolox:  # whose export leaves the boxes as offsets
        steps.append(f"{{op: grid_boxes, input: proposed, {picture.size}, strides: {strides}}}")
    return _Boxes(classes, steps, is_yolox)


def _letterbox(picture: _Picture) -> Sequence[str]:
    return [
        "{op: decode_image, input: image, output: picture}",
        "{op: image_size, input: picture, output: size}",
        f"{{op: resize, input: picture, {picture.size}, fit: inside, interpolation: linear}}",
        f"{{op: pad, input: picture, {picture.size}, value: 114}}",
        f"{{op: normalize, input: picture, scale: {PIXEL}}}",
        picture.layout("picture"),
    ]


def _yolox_picture(picture: _Picture) -> Sequence[str]:
    return [
        "{op: decode_image, input: image, output: picture}",
        "{op: image_size, input: picture, output: size}",
        f"{{op: resize, input: picture, {picture.size}, fit: inside, rounding: down, interpolation: linear}}",
        f"{{op: pad, input: picture, {picture.size}, value: 114, position: start}}",
        "{op: convert_color, input: picture, source: rgb, target: bgr}",
        picture.layout("picture"),
    ]


def text(draft: Draft) -> Pattern:
    """A text through a tokenizer.json beside the contract: an embedding of [n,tokens,size], or scores [n,classes]."""
    names = {"input_ids", "attention_mask", "token_type_ids"}
    given = {tensor.name: tensor for tensor in draft.inputs}
    if not {"input_ids"} <= given.keys() <= names or len({tensor.datatype for tensor in draft.inputs}) > 1:
        raise CannotServe(
            f"text: want inputs input_ids, and perhaps attention_mask and token_type_ids, of one datatype, got "
            f"{_shapes(draft.inputs)}"
        )
    length = draft.inputs[0].dims[-1] if draft.inputs[0].dims else -1
    padding = "" if length == -1 else ", padding: max_length"
    tokenize = (
        f"{{op: tokenize, input: text, file: {TOKENIZER}, max_length: {TOKENS if length == -1 else length}{padding}, "
        f"datatype: {draft.inputs[0].datatype}}}"
    )
    hidden = next((tensor for tensor in draft.outputs if len(tensor.dims) == 2 and tensor.dims[1] > 0), None)
    answer = _scores_answer(draft, "text") if hidden is None else _embedding(hidden)
    return replace(answer, inputs=[TEXT], preprocess=[tokenize], needs_tokenizer=True)


def audio(draft: Draft) -> Pattern:
    """A WAV file as the signal that the model takes; what else it takes comes from the caller."""
    signals = [t for t in draft.inputs if t.datatype == "FP32" and t.dims and t.dims[:-1] in ((), (1,))]
    if not signals:
        raise CannotServe(f"audio: want an input FP32 [n,samples], got {_shapes(draft.inputs)}")
    base, signal = plain(draft), signals[0]
    length, name = "" if signal.dims[-1] == -1 else f", length: {signal.dims[-1]}", _q(signal.name)
    rate = f"sample_rate: {RATE}, other_rates: resample"
    steps = [f"{{op: decode_wav, input: sound, {rate}{length}, output: {name}}}  # the rate of the model"]
    if len(signal.dims) > 1:
        steps.append(f"{{op: reshape, input: {name}, shape: [1, -1]}}")
    others = [line for line, tensor in zip(base.inputs, draft.inputs, strict=True) if tensor is not signal]
    sound = "{name: sound, datatype: BYTES, shape: [-1], max_bytes: 10485760, description: WAV file}"
    return replace(base, inputs=[sound, *others], preprocess=steps)


def _embedding(hidden: DraftTensor) -> Pattern:
    """The mean over the tokens of a text, of length 1, as sentence-transformers has it."""
    size = hidden.dims[1]
    return Pattern(
        inputs=[],
        postprocess=[
            f"{{op: mean_pool, input: {_q(hidden.name)}, mask: attention_mask, output: embedding}}",
            "{op: l2_normalize, input: embedding}",
        ],
        outputs=[f"{{name: embedding, datatype: FP32, shape: [-1, {size}]}}"],
        model_outputs=[hidden],
    )


def _scores_answer(draft: Draft, kind: str) -> Pattern:
    """The probability of each class, and the name of the best one."""
    scores = [tensor for tensor in draft.outputs if _is_scores(tensor)]
    if len(scores) != 1:
        raise CannotServe(f"{kind}: want one output FP32 [n,tokens,size] or [n,classes], got {_shapes(draft.outputs)}")
    name, classes = _q(scores[0].name), scores[0].dims[0]
    return Pattern(
        inputs=[],
        postprocess=[
            f"{{op: softmax, input: {name}, output: probability}}",
            "{op: argmax, input: probability, output: class_id}",
            "{op: label, input: class_id, labels: classes, output: class}",
        ],
        outputs=[
            "{name: class, datatype: BYTES, shape: [-1]}",
            f"{{name: probability, datatype: FP32, shape: [-1, {classes}]}}",
        ],
        labels=_labels(classes),
    )


PATTERNS: Final[Mapping[str, Callable[[Draft], Pattern]]] = {
    "plain": plain,
    "tabular": tabular,
    "image-classifier": image_classifier,
    "detector": detector,
    "text": text,
    "audio": audio,
}
TOKENIZER: Final = "tokenizer.json"
TEXT: Final = "{name: text, datatype: BYTES, shape: [-1], max_bytes: 65536, utf8: true}"
PICTURE: Final = "{name: image, datatype: BYTES, shape: [-1], max_bytes: 10485760, description: PNG or JPEG file}"


@dataclass(frozen=True)
class _Picture:
    """The input of a network of pictures."""

    tensor: DraftTensor
    order: str  # nchw or nhwc
    height: int
    width: int

    @property
    def size(self) -> str:
        """The fields width and height of a step."""
        return f"width: {self.width}, height: {self.height}"

    def layout(self, value: str) -> str:
        """The step that makes the input of the model."""
        name, datatype = _q(self.tensor.name), self.tensor.datatype
        return f"{{op: layout, input: {value}, order: {self.order}, datatype: {datatype}, output: {name}}}"


def _picture(draft: Draft) -> _Picture:
    """Raises `CannotServe` if the model does not take one picture of three channels."""
    tensor = draft.inputs[0]
    if len(draft.inputs) == 1 and len(tensor.dims) == 3 and tensor.datatype in ("FP32", "FP16", "UINT8"):
        for order, (channels, height, width) in (("nchw", tensor.dims), ("nhwc", (*tensor.dims[2:], *tensor.dims[:2]))):
            if channels == 3:
                return _Picture(tensor, order, height if height > 0 else SIDE, width if width > 0 else SIDE)
    raise CannotServe(f"want one input FP32 [n,3,height,width] or [n,height,width,3], got {_shapes(draft.inputs)}")


def _is_scores(tensor: DraftTensor) -> bool:
    return tensor.datatype in ("FP32", "FP64", "FP16") and len(tensor.dims) == 1 and 1 < tensor.dims[0] <= MAX_LABELS


def _labels(count: int) -> list[str]:
    names = ", ".join(f"class {number}" for number in range(count))
    return ["labels:", f"  classes: [{names}]  # write the names here"]


def _declared(tensor: DraftTensor, more: str = "") -> str:
    return f"{{name: {_q(tensor.name)}, datatype: {tensor.datatype}, shape: {json.dumps(tensor.shape)}{more}}}"


def _shapes(tensors: Sequence[DraftTensor]) -> str:
    return ", ".join(f"'{tensor.name}' {tensor.datatype} {list(tensor.shape)}" for tensor in tensors)


def _q(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
