"""Contracts to start from: what a caller sends, the steps, and what the caller gets, each item a line of YAML."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from triptych_cli.init.draft import CannotServe, Draft, DraftTensor

SIDE: Final = 224  # of a picture whose size the file leaves open
MAX_LABELS: Final = 2000
IMAGENET: Final = "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]"
PIXEL: Final = 0.00392156862745098  # 1/255
YOLO_BOXES: Final = 4  # x, y, width, height before the scores of the classes
NOTHING: Final = "nothing"


@dataclass(frozen=True)
class Pattern:
    """The parts of a contract that depend on the kind of model."""

    inputs: Sequence[str]
    preprocess: Sequence[str] = ()
    postprocess: Sequence[str] = ()
    outputs: Sequence[str] = ()
    labels: Sequence[str] = ()


def plain(draft: Draft) -> Pattern:
    """The caller sends the model's inputs and gets its outputs."""
    return Pattern(
        inputs=[_declared(tensor, ", utf8: true" if tensor.datatype == "BYTES" else "") for tensor in draft.inputs],
        outputs=[_declared(tensor) for tensor in draft.outputs],
    )


def tabular(draft: Draft) -> Pattern:
    """The inputs as they are; of scores [n,classes] the class with the best one, by name."""
    base, scores = plain(draft), [tensor for tensor in draft.outputs if _is_scores(tensor)]
    if len(scores) != 1:
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
    """A picture file in a letterbox; boxes of an output [n,4+classes,boxes], as YOLOv8 and later have it."""
    picture = _picture(draft)
    output = draft.outputs[0]
    if len(draft.outputs) != 1 or len(output.dims) != 2 or output.dims[0] <= YOLO_BOXES:
        raise CannotServe(f"detector: want one output FP32 [n,4+classes,boxes], got {_shapes(draft.outputs)}")
    classes = output.dims[0] - YOLO_BOXES
    return Pattern(
        inputs=[PICTURE],
        preprocess=[
            "{op: decode_image, input: image, output: picture}",
            "{op: image_size, input: picture, output: size}",
            f"{{op: resize, input: picture, {picture.size}, fit: inside, interpolation: linear}}",
            f"{{op: pad, input: picture, {picture.size}, value: 114}}",
            f"{{op: normalize, input: picture, scale: {PIXEL}}}",
            picture.layout("picture"),
        ],
        postprocess=[
            f"{{op: transpose, input: {_q(output.name)}, order: [2, 1], output: found}}",
            f"{{op: slice, input: found, axis: 2, stop: {YOLO_BOXES}, output: proposed}}",
            f"{{op: slice, input: found, axis: 2, start: {YOLO_BOXES}, output: scores}}",
            "{op: nms, boxes: proposed, scores: scores, format: cxcywh, output: box, score: score, class_id: class_id, "
            "count: count}",
            f"{{op: scale_boxes, input: box, size: size, {picture.size}}}",
            f"{{op: label, input: class_id, labels: classes, none: {NOTHING}, output: class}}",
        ],
        outputs=[
            '{name: box, datatype: FP32, shape: [-1, 100, 4], description: "x1, y1, x2, y2 in pixels of the picture"}',
            "{name: score, datatype: FP32, shape: [-1, 100]}",
            "{name: class, datatype: BYTES, shape: [-1, 100]}",
            "{name: count, datatype: INT32, shape: [-1], description: boxes that were found}",
        ],
        labels=_labels(classes),
    )


PATTERNS: Final[Mapping[str, Callable[[Draft], Pattern]]] = {
    "plain": plain,
    "tabular": tabular,
    "image-classifier": image_classifier,
    "detector": detector,
}
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
