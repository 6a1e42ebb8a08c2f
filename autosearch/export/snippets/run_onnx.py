"""Looks at images with the model of this folder: ``python run_onnx.py IMAGE ...``.

Needs numpy, onnxruntime and Pillow alone. Prints score and verdict of every image, and writes its
anomaly map, of the image's own size, to IMAGE.pfm. Yours to change.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FOLDER = Path(__file__).parent
MODEL = json.loads((FOLDER / "model.json").read_text(encoding="utf-8"))
INPUT, LIMIT = MODEL["input"], MODEL["thresholds"]["image"]["value"]
FRAMING, SHARE = INPUT["framing"], MODEL["image_score"]["top_share"]
if {"tiling", "stage"} & INPUT.keys() or FRAMING["looked_at"] or FRAMING["preprocess"] != "none":
    sys.exit("this model wants more than a resize (tiles, objects, a mask): autosearch predict")


def resized(values, height, width):
    """``(h, w)`` float32 in another size: bilinear, antialiased, not rounded to 8 bits."""
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))


def look(session, path):
    """Score of an image, and its map ``(h, w)``; higher is more anomalous."""
    photo = Image.open(path)
    photo = ImageOps.exif_transpose(photo) if INPUT["orientation"] == "upright" else photo
    if photo.mode[0] in "IF":
        sys.exit(f"{path}: has more than 8 bits a channel, which this example does not read")
    image = np.asarray(photo.convert("RGB"), np.float32).transpose(2, 0, 1) / np.float32(255)
    top, left, bottom, right = FRAMING["region"] or (0, 0, *image.shape[1:])
    part = np.ascontiguousarray(image[:, top:bottom, left:right])
    if part.shape[1:] != (bottom - top, right - left):
        sys.exit(f"{path}: does not hold the region that the model looks at")
    canvas, size = np.array(FRAMING["size"]), np.array(part.shape[1:])
    size = np.maximum(1, np.round((canvas / size).min() * size)).astype(int)
    if FRAMING["fit"] == "stretch" or (canvas - size <= np.maximum(4, 0.04 * canvas)).all():
        size = canvas  # All of the input; else in its middle, the edges repeated beside it.
    first, end = (canvas - size) // 2, (canvas - size) // 2 + size
    small = [np.pad(resized(a, *size), np.c_[first, canvas - end], mode="edge") for a in part]
    (values,), _ = session.run(["anomaly_map", "score"], {"images": np.stack(small)[None]})
    seen = np.ascontiguousarray(values[first[0] : end[0], first[1] : end[1]])
    large = resized(seen, *part.shape[1:])
    whole = np.full(image.shape[1:], large.min(), np.float32)
    whole[top:bottom, left:right] = large
    highest = 1 if SHARE is None else math.ceil(SHARE * seen.size)
    return np.sort(seen, axis=None)[-highest:].mean(dtype=np.float64), whole


model = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
for name in sys.argv[1:]:
    score, found = look(model, name)
    Image.fromarray(found).save(f"{name}.pfm")
    print(f"{name}: {score:.6f} {'anomalous' if score >= LIMIT else 'normal'} (limit {LIMIT:g})")
