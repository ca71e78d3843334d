"""Small data sets in the layouts of LLaVA, ADE20K, depth data sets and HardBLINK."""

import json

import numpy as np
from PIL import Image

from perceptio.interfaces import LETTERS

CIRCLED = "Which of the circled points is closest to the camera?"


def write_picture(path, size=(96, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (90, 120, 90)).save(path)


def floor_of_depth(size=(96, 64)):
    """Millimetres [H, W] of a floor, from nine metres at the top to one at the bottom, as uint16."""
    return np.repeat(1000 / np.linspace(1 / 9, 1, size[0])[:, None], size[1], 1).astype(np.uint16)


def write_array(path, values_HW):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values_HW)
    else:
        Image.fromarray(values_HW).save(path)


LLAVA = [
    {
        "id": "9",
        "image": "coco/train2017/000000000009.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "A field."},
        ],
    },
    {
        "id": "9",
        "model": "",
        "conversations": [{"from": "human", "value": "Say yes."}, {"from": "gpt", "value": "Yes."}],
    },
]
"""A conversation with a picture, one of text alone, and an id twice."""


def write_llava(folder):
    write_picture(folder / "coco/train2017/000000000009.jpg")
    (folder / "llava_v1_5_mix665k.json").write_text(json.dumps(LLAVA))


def write_classes(pictures, classes, names, size=(96, 64)):
    """Pictures of two classes, and the list of their names."""
    for picture, path in zip(pictures, classes, strict=True):
        write_picture(picture, size)
        classes_HW = np.ones(size, np.uint8)
        classes_HW[: size[0] // 2] = 7
        write_array(path, classes_HW)
    names.write_text("1 wall\n7 road\n")


def write_frames(folder, image, depth, count=2, values_HW=None):
    """Pictures with depth; `image` and `depth` are their paths with the number as `{}`."""
    for number in range(count):
        write_picture(folder / image.format(number))
        write_array(folder / depth.format(number), floor_of_depth() if values_HW is None else values_HW)


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_hardblink(folder, points=(3, 4, 5)):
    """Two questions of each number of points."""
    for count in points:
        name = f"blink_{count}pointscenter"
        rows = [
            {"question_id": n, "image": f"{n}.png", "text": CIRCLED, "category": "count"} for n in range(2)
        ]
        for number in range(2):
            write_picture(folder / f"images/blink{count}pointscenter/{number}.png", (16, 16))
        write_lines(folder / f"questions/{name}_questions.jsonl", rows)
        answers = [{"question_id": n, "text": f"({LETTERS[count - 1 - n]})"} for n in range(2)]
        write_lines(folder / f"answers/{name}_answers.jsonl", answers)
    return folder
