"""Texts of contract.yaml, laid out for a reader."""

from __future__ import annotations

import json
from typing import Final

from examples.models.countries import FEATURES, HISTORY_DAYS, HORIZON_DAYS
from examples.models.labels import labels

PICTURE_PIXELS: Final = 32
DIGITS_MAX_ROWS: Final = 64
SALES_MAX_ROWS: Final = 256
_HEAD: Final = "# yaml-language-server: $schema=../../../docs/contract.schema.json\n"

# OpenCV's 8-bit HSV has hue 0 to 179 and the others 0 to 255; all three become -1 to 1.
_HSV_SCALE: Final = (0.0111111111, 0.0078431373, 0.0078431373)

_DIGITS: Final = """\
apiVersion: triptych.dev/v1
kind: Contract
family: digits
route: {route}
max_rows: {max_rows}

inputs:  # what a caller sends; -1 is the rows
  - name: image
    datatype: BYTES
    shape: [-1]
    max_bytes: 10485760  # 10 MiB a picture
    description: a PNG or JPEG file with one handwritten digit
  - name: box
    datatype: INT32
    shape: [-1, 4]
    required: false
    description: x, y, width, height of the digit in pixels of the upright picture; without it, the whole picture

parameters:
  - {{name: top_k, type: int64, default: 3, minimum: 1, maximum: 10, description: how many answers for each row}}

preprocess:
  - {{op: decode_image, input: image, output: picture, formats: [png, jpeg], max_pixels: 25000000}}
  - {{op: crop, input: picture, box: box}}
  - {{op: convert_color, input: picture, source: rgb, target: hsv}}
  - {{op: resize, input: picture, width: {side}, height: {side}, interpolation: area}}
  # hue 0..179, saturation and value 0..255, each to -1..1
  - {{op: normalize, input: picture, scale: {scale}, offset: [-1.0, -1.0, -1.0]}}
  - {{op: layout, input: picture, output: pixels, order: nchw}}

model:  # as in config.pbtxt
  inputs:
    - {{name: pixels, datatype: FP32, shape: [-1, 3, {side}, {side}]}}
  outputs:
    - {{name: logits, datatype: FP32, shape: [-1, 10]}}

postprocess:
  - {{op: softmax, input: logits, output: probability}}
  - {{op: top_k, input: probability, k: {{parameter: top_k}}, output: score, indices: class_id}}
  - {{op: label, input: class_id, labels: digit, output: label}}

outputs:  # [rows, top_k], the likeliest first
  - {{name: label, datatype: BYTES, shape: [-1, -1], description: the digit as a word}}
  - {{name: score, datatype: FP32, shape: [-1, -1], description: probability}}
  - {{name: class_id, datatype: INT32, shape: [-1, -1], description: position in this version's labels}}

labels:  # in the order of the model's classes{remark}
  digit: {words}
"""

_SALES: Final = """\
apiVersion: triptych.dev/v1
kind: Contract
family: sales_forecast
route: {route}
max_rows: {max_rows}

inputs:  # what a caller sends; -1 is the rows
  - name: history
    datatype: FP32
    shape: [-1, {history}]
    minimum: 0
    maximum: 1000000000  # so that nothing overflows in FP32
    finite: true
    description: units sold on each of the last {history} days, oldest first
  - name: price
    datatype: FP32
    shape: [-1, {horizon}]
    exclusive_minimum: 0
    maximum: 1000000
    finite: true
    description: price in euros on each of the next {horizon} days
  - name: promotion
    datatype: BOOL
    shape: [-1, {horizon}]
    description: whether each of the next {horizon} days is promoted

preprocess:
  - {{op: cast, input: promotion, datatype: FP32, output: promotion_f}}
  - {{op: concatenate, inputs: [history, price, promotion_f], axis: 1, output: features}}

model:  # as in config.pbtxt
  inputs:
    - {{name: features, datatype: FP32, shape: [-1, {features}]}}
  outputs:
    - {{name: forecast, datatype: FP32, shape: [-1, {horizon}]}}

postprocess:
  - {{op: clip, input: forecast, minimum: 0}}
  - {{op: round, input: forecast}}
  - {{op: cast, input: forecast, datatype: INT64, output: units}}
  - {{op: sum, input: units, axis: 1, output: total}}

outputs:
  - {{name: units, datatype: INT64, shape: [-1, {horizon}], description: units on each of the next {horizon} days}}
  - {{name: total, datatype: INT64, shape: [-1], description: units of the {horizon} days together}}
"""


def digits(code: str, version: int) -> str:
    """The contract.yaml of a digits model."""
    words = json.dumps(labels(code, version), ensure_ascii=False)
    remark = "; permuted on purpose, against version 1" if version == 2 else ""
    scale = list(_HSV_SCALE)
    return _HEAD + _DIGITS.format(
        # quoted: YAML 1.1 readers take NO for false
        route=f'"{code}"',
        max_rows=DIGITS_MAX_ROWS,
        side=PICTURE_PIXELS,
        scale=scale,
        words=words,
        remark=remark,
    )


def sales(code: str) -> str:
    """The contract.yaml of a sales_forecast model."""
    return _HEAD + _SALES.format(
        route=f'"{code}"',
        max_rows=SALES_MAX_ROWS,
        history=HISTORY_DAYS,
        horizon=HORIZON_DAYS,
        features=FEATURES,
    )
