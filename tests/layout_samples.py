"""A tiny dataset of every layout, made by code; in all of them `mark` is what is anomalous.

Every builder makes category ``part`` in a folder: the folder itself, or one below it.
"""

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dataset_parts import SHAPE, mark, mask, photo
from PIL import Image

HEIGHT, WIDTH = SHAPE
BOX = (5, 3, 10, 6)
"""Left, top, width and height of `mark`."""
CORNERS = [[5, 3], [15, 3], [15, 9], [5, 9]]
OTHER = [[30, 20], [44, 20], [44, 32], [30, 32]]
"""A larger box."""


@dataclass(frozen=True)
class Made:
    """A dataset.

    Attributes:
        build: Makes it in a folder and gives back what ``dataset.root`` is to be.
        counts: Images by type.
        splits: Images by stated split.
        suite: Attributes of `LayoutSuite`.
    """

    build: Callable[[Path], Path]
    counts: dict[str, int]
    splits: dict[str | None, int]
    suite: dict[str, bool]


SAMPLES: dict[str, Made] = {}


def sample(
    counts: dict[str, int], splits: dict[str | None, int], layout: str = "", **suite: bool
) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    def keep(build: Callable[[Path], Path]) -> Callable[[Path], Path]:
        SAMPLES[layout or build.__name__] = Made(build, counts, splits, suite)
        return build

    return keep


def photos(folder: Path, count: int, ending: str = ".png", first: int = 0) -> Iterator[Path]:
    """Images of their own, in the order of their names."""
    for i in range(first, first + count):
        path = folder / f"{i:03}{ending}"
        photo(path, sum(map(ord, str(path)[-24:])) * 97 + i)
        yield path


def photo_all(folder: Path, count: int, ending: str = ".png", first: int = 0) -> list[Path]:
    return list(photos(folder, count, ending, first))


@sample({"good": 10, "hole": 3, "dent": 2}, {None: 13, "test": 2})
def mvtec(tmp: Path) -> Path:
    base = tmp / "part"
    photo_all(base / "train/good", 8)
    photo_all(base / "test/good", 2)
    for kind, count in (("hole", 3), ("dent", 2)):
        for path in photos(base / f"test/{kind}", count):
            mask(base / f"ground_truth/{kind}/{path.stem}_mask.png")
    return tmp


@sample({"good": 12, "bad": 6}, {"train": 6, "val": 2, "test": 4, None: 6})
def mvtec_ad_2(tmp: Path) -> Path:
    base = tmp / "part"
    photo_all(base / "train/good", 6, "_regular.png")
    photo_all(base / "validation/good", 2, "_regular.png")
    for light in ("regular", "overexposed"):
        photo_all(base / "test_public/good", 2, f"_{light}.png")
        for path in photos(base / "test_public/bad", 3, f"_{light}.png"):
            mask(base / f"test_public/ground_truth/bad/{path.stem}_mask.png")
    photo_all(base / "test_private", 2)
    return tmp


CONFIG = [
    {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 30,
     "relative_saturation": False},
    {"defect_name": "scratch", "pixel_value": 250, "saturation_threshold": 1.0,
     "relative_saturation": True},
]  # fmt: skip


@sample(
    {"good": 10, "logical_anomalies": 2, "structural_anomalies": 2},
    {"train": 6, "val": 2, "test": 2, None: 4},
)
def mvtec_loco(tmp: Path) -> Path:
    base = tmp / "part"
    photo_all(base / "train/good", 6)
    photo_all(base / "validation/good", 2)
    photo_all(base / "test/good", 2)
    for kind in ("logical", "structural"):
        for path in photos(base / f"test/{kind}_anomalies", 2):
            truth = base / f"ground_truth/{kind}_anomalies/{path.stem}"
            mask(truth / "000.png")
            second = np.zeros(SHAPE, np.uint8)
            second[20:30, 20:30] = 250
            mask(truth / "001.png", second)
    (base / "defects_config.json").write_text(json.dumps(CONFIG))
    return tmp


@sample({"good": 10, "bent": 2, "chip": 2}, {None: 12, "test": 2})
def visa(tmp: Path) -> Path:
    base = tmp / "part/Data"
    normal = photo_all(base / "Images/Normal", 10, ".JPG")
    anomalous = photo_all(base / "Images/Anomaly", 4, ".JPG")
    kinds = ["bent", "chip", "chip,bent", "bent"]
    kept, rows = ["image,label,mask"], ["object,split,label,image,mask"]
    for place, path in enumerate([*normal, *anomalous]):
        name = path.relative_to(tmp).as_posix()
        truth = ""
        if path in anomalous:
            truth = f"part/Data/Masks/Anomaly/{path.stem}.png"
            mask(tmp / truth, mark() // 255)
        kind = kinds[place - 10] if truth else "normal"
        split = "test" if place >= 8 else "train"
        kept.append(f'{name},"{kind}",{truth}')
        rows.append(f"part,{split},{'anomaly' if truth else 'normal'},{name},{truth}")
    (tmp / "part/image_anno.csv").write_text("\n".join(kept))
    (tmp / "split_csv").mkdir()
    (tmp / "split_csv/1cls.csv").write_text("\n".join([*rows, "other,test,normal,other/0.JPG,"]))
    return tmp


@sample({"good": 10, "ko": 4}, {None: 12, "test": 2})
def btad(tmp: Path) -> Path:
    base = tmp / "part"
    photo_all(base / "train/ok", 8, ".bmp")
    photo_all(base / "test/ok", 2, ".bmp")
    for path in photos(base / "test/ko", 4, ".bmp"):
        mask(base / f"ground_truth/ko/{path.stem}.png")
    return tmp


@sample({"good": 18, "defect": 2}, {None: 20})
def kolektor(tmp: Path) -> Path:
    for item in range(5):
        for part in range(4):
            base = tmp / f"part/kos{item + 1:02}"
            photo(base / f"Part{part}.jpg", 10 * item + part)
            mask(base / f"Part{part}_label.bmp", mark() if part == 2 and item > 2 else 0 * mark())
    return tmp / "part"


@sample({"good": 10, "defect": 5}, {None: 13, "test": 2})
def kolektor2(tmp: Path) -> Path:
    for part, normal, anomalous in (("train", 8, 2), ("test", 2, 3)):
        for i in range(normal + anomalous):
            photo(tmp / f"part/{part}/{10000 + i}.png", len(part) * 100 + i)
            truth = mark() if i >= normal else 0 * mark()
            mask(tmp / f"part/{part}/{10000 + i}_GT.png", truth)
    return tmp / "part"


@sample({"good": 8, "hole": 2, "dent": 2, "bad": 1}, {None: 13})
def good_bad(tmp: Path) -> Path:
    base = tmp / "part"
    photo_all(base / "good", 8)
    for kind in ("hole", "dent"):
        for path in photos(base / f"bad/{kind}", 2):
            mask(base / f"masks/bad/{kind}/{path.stem}.png")
    photo(base / "bad/one.png", 99)
    mask(base / "masks/one_mask.png")
    return base


@sample({"good": 8, "nok": 3}, {None: 11}, "good_bad without masks", marked=False)
def unmarked(tmp: Path) -> Path:
    photo_all(tmp / "part/ok", 8, ".JPG")
    photo_all(tmp / "part/nok", 3, ".JPG")
    return tmp / "part"


@sample({"good": 8}, {None: 8}, anomalous=False)
def flat(tmp: Path) -> Path:
    photo_all(tmp / "part", 8, ".tif")
    return tmp / "part"


@sample({"good": 8, "hole": 3}, {"train": 6, "val": 2, "test": 3})
def csv(tmp: Path) -> Path:
    rows = ["path,mask,type,split,group"]
    for place, path in enumerate(photos(tmp / "pictures", 11)):
        kind, truth = ("good", "") if place < 8 else ("hole", f"masks/{path.name}")
        if truth:
            mask(tmp / truth)
        split = (["train"] * 6 + ["val", "test", "val", "test", "test"])[place]
        rows.append(f"pictures/{path.name},{truth},{kind},{split},item{min(place, 9)}")
    (tmp / "part.csv").write_text("\n".join(rows))
    return tmp / "part.csv"


def coco_text(runs: list[int]) -> str:
    """COCO's compressed run lengths, by the book: five bits a sign, lowest first."""
    signs = []
    for i, run in enumerate(runs):
        left = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            bits = left & 31
            left >>= 5
            more = left != (-1 if bits & 16 else 0)
            signs.append(chr(48 + bits + (32 if more else 0)))
    return "".join(signs)


def runs(values: np.ndarray) -> list[int]:
    """Run lengths of a flat mask, pixel by pixel."""
    found, inside = [0], False
    for value in values.tolist():
        if bool(value) != inside:
            found.append(0)
            inside = not inside
        found[-1] += 1
    return found


def coco_content() -> dict[str, Any]:
    down = runs((mark() > 0).T.ravel())
    drawn: list[Any] = [
        [[float(n) for corner in CORNERS for n in corner]],
        {"size": [HEIGHT, WIDTH], "counts": down},
        {"size": [HEIGHT, WIDTH], "counts": coco_text(down)},
        [[float(n) for corner in CORNERS for n in corner]],
    ]
    images = [
        {"id": i, "file_name": f"{i:03}.png", "width": WIDTH, "height": HEIGHT} for i in range(12)
    ]
    marks = [
        {"id": 100 + i, "image_id": 8 + i, "category_id": 1 + i // 3, "segmentation": shape,
         "bbox": list(BOX), "area": 60, "iscrowd": int(isinstance(shape, dict))}
        for i, shape in enumerate(drawn)
    ]  # fmt: skip
    names = [{"id": 1, "name": "hole"}, {"id": 2, "name": "dent"}]
    return {"info": {}, "images": images, "annotations": marks, "categories": names}


@sample({"good": 8, "hole": 3, "dent": 1}, {None: 12})
def coco(tmp: Path) -> Path:
    photo_all(tmp / "part/images", 12)
    (tmp / "part/annotations").mkdir()
    file = tmp / "part/annotations/instances_default.json"
    file.write_text(json.dumps(coco_content()))
    return tmp / "part"


def labelme_content(image: Path, *shapes: dict[str, Any]) -> str:
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image.name,
               "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}  # fmt: skip
    return json.dumps(content)


def small_png() -> str:
    out = io.BytesIO()
    Image.fromarray(np.full((6, 10), True)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@sample({"good": 9, "hole": 2, "dent": 1}, {None: 12})
def labelme(tmp: Path) -> Path:
    images = photo_all(tmp / "part", 12, ".jpg")
    shapes: list[dict[str, Any]] = [
        {"label": "hole", "points": CORNERS, "shape_type": "polygon"},
        {"label": "hole", "points": [[15, 9], [5, 3]], "shape_type": "rectangle"},
        {"label": "dent", "points": [[5, 3], [14, 8]], "shape_type": "mask", "mask": small_png()},
    ]
    for image, shape in zip(images[9:], shapes, strict=True):
        image.with_suffix(".json").write_text(labelme_content(image, shape))
    images[0].with_suffix(".json").write_text(labelme_content(images[0]))
    return tmp / "part"


def packed_brush(values: np.ndarray) -> list[int]:
    """The alpha channel as Label Studio packs it: blocks of one repeated value, or of values."""
    alpha = values.ravel().tolist()
    flat = [channel for value in alpha for channel in (value, value, value, value)]
    bits = f"{len(flat):032b}{7:05b}{2:04b}{7:04b}{11:04b}{15:04b}"
    place = 0
    while place < len(flat):
        same = place
        while same < len(flat) and flat[same] == flat[place] and same - place < 2**12:
            same += 1
        if same - place > 8:
            bits += f"1{2:02b}{same - place - 1:012b}{flat[place]:08b}"
            place = same
        else:
            chunk = flat[place : place + 4]
            bits += f"0{0:02b}{len(chunk) - 1:03b}" + "".join(f"{v:08b}" for v in chunk)
            place += len(chunk)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def task(number: int, image: str, *values: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    result = [
        {"type": kind, "value": value, "original_width": WIDTH, "original_height": HEIGHT,
         "from_name": "label", "to_name": "image"}
        for kind, value in values
    ]  # fmt: skip
    annotation = {"result": result, "was_cancelled": False}
    return {"id": number, "data": {"image": image}, "annotations": [annotation]}


def percent(points: list[list[int]]) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def tasks() -> list[dict[str, Any]]:
    (x, y), (right, bottom) = percent([CORNERS[0], CORNERS[2]])
    box = {"x": x, "y": y, "width": right - x, "height": bottom - y, "rotation": 0}
    shapes: list[tuple[str, dict[str, Any]]] = [
        ("polygonlabels", {"points": percent(CORNERS), "polygonlabels": ["hole"]}),
        ("rectanglelabels", {**box, "rectanglelabels": ["hole"]}),
        ("brushlabels", {"format": "rle", "rle": packed_brush(mark()), "brushlabels": ["dent"]}),
    ]
    places = ["/data/upload/1/0a1b2c3d-{}", "/data/local-files/?d=images/{}", "http://x.y/a/{}"]
    made = [task(i, places[i % 3].format(f"{i:03}.png")) for i in range(8)]
    made += [task(8 + i, f"images/{8 + i:03}.png", shape) for i, shape in enumerate(shapes)]
    return made


@sample({"good": 8, "hole": 2, "dent": 1}, {None: 11})
def label_studio(tmp: Path) -> Path:
    photo_all(tmp / "part/images", 12)
    waiting = {"id": 11, "data": {"image": "images/011.png"}, "annotations": []}
    (tmp / "part/part.json").write_text(json.dumps([*tasks(), waiting]))
    return tmp / "part"


def cvat_text(body: str, head: str = "") -> str:
    start = f"<?xml version='1.0' encoding='utf-8'?>\n{head}<annotations><version>1.1</version>\n"
    return f"{start}<meta><task><name>x</name></task></meta>\n{body}\n</annotations>\n"


def cvat_image(number: int, inside: str = "", subset: str = "") -> str:
    part = f' subset="{subset}"' if subset else ""
    return (
        f'<image id="{number}" name="{number:03}.png"{part} width="{WIDTH}" height="{HEIGHT}">'
        f"{inside}</image>"
    )


def cvat_body() -> str:
    points = ";".join(f"{x}.00,{y}.00" for x, y in CORNERS)
    left, top, width, height = BOX
    shapes = [
        f'<polygon label="hole" occluded="0" points="{points}" z_order="0"></polygon>',
        f'<box label="hole" xtl="{left}" ytl="{top}" xbr="{left + width}" ybr="{top + height}">'
        "</box>",
        f'<mask label="dent" rle="0, 60" left="{left}" top="{top}" width="{width}" '
        f'height="{height}"></mask>',
    ]
    images = [cvat_image(i) for i in range(8)]
    return "\n".join([*images, *(cvat_image(8 + i, shape) for i, shape in enumerate(shapes))])


@sample({"good": 8, "hole": 2, "dent": 1}, {None: 11})
def cvat(tmp: Path) -> Path:
    photo_all(tmp / "part/images", 11)
    (tmp / "part/annotations.xml").write_text(cvat_text(cvat_body()))
    return tmp / "part"
