"""Published data sets in exactly their layouts, of any size, with made-up pictures, objects and expressions.

`refs(unc).p` is written as Python 2 wrote the published ones: protocol 0, its texts of bytes. As a program,
`python tests/support/published.py FOLDER` writes a RefCOCO of the size of the real one, with which imports are timed.
"""

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH, HEIGHT = 64, 48
CATEGORIES = {1: "person", 18: "dog", 44: "bottle"}


def python2_pickle(value: Any) -> bytes:
    """A value as `cPickle.dumps` of Python 2 wrote it: memo numbers from 1, a text that was met once is looked up."""
    out: list[bytes] = []
    memo: dict[str, int] = {}
    count = 0

    def put() -> int:
        nonlocal count
        count += 1
        out.append(b"p%d\n" % count)
        return count

    def write(one: Any) -> None:
        if one is None:
            out.append(b"N")
        elif isinstance(one, bool):
            out.append(b"I01\n" if one else b"I00\n")
        elif isinstance(one, int):
            out.append(b"I%d\n" % one)
        elif isinstance(one, str):
            if one in memo:
                out.append(b"g%d\n" % memo[one])
            else:
                out.append(b"S" + repr(one.encode("latin-1"))[1:].encode("ascii") + b"\n")
                memo[one] = put()
        elif isinstance(one, list):
            out.append(b"(l")
            put()
            for held in one:
                write(held)
                out.append(b"a")
        else:
            out.append(b"(d")
            put()
            for key, held in one.items():
                write(key)
                write(held)
                out.append(b"s")

    write(value)
    return b"".join(out) + b"."


def picture_name(number: int) -> str:
    return f"COCO_train2014_{number:012d}.jpg"


def write_pictures(folder: Path, numbers: Any, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A JPEG for each number, all of one content, as one file with many names."""
    folder.mkdir(parents=True, exist_ok=True)
    first = None
    for number in numbers:
        place = folder / picture_name(number)
        if first is None:
            Image.new("RGB", size, (90, 120, 60)).save(place)
            first = place
        else:
            os.link(first, place)


def polygon(draw: random.Random, points: int = 8, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[float]:
    """A polygon around some place of a picture, in hundredths of pixels, as COCO has them."""
    x, y = draw.uniform(8, size[0] - 8), draw.uniform(8, size[1] - 8)
    found = []
    for _ in range(points):
        found += [round(x + draw.uniform(-9, 9), 2), round(y + draw.uniform(-9, 9), 2)]
    return found


def instances(
    pictures: int, objects: int, *, seed: int = 0, points: int = 8, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> dict[str, Any]:
    """COCO's `instances.json` of so many pictures with so many objects each; ids from 101 and 1001 on."""
    draw = random.Random(seed)
    images, annotations = [], []
    for number in range(101, 101 + pictures):
        images.append(
            {
                "license": 1,
                "file_name": picture_name(number),
                "height": size[1],
                "width": size[0],
                "id": number,
            }
        )
        for _ in range(objects):
            annotations.append(
                {
                    "segmentation": [polygon(draw, points, size) for _ in range(draw.choice((1, 1, 2)))],
                    "area": 100.0,
                    "iscrowd": 0,
                    "image_id": number,
                    "bbox": [1.0, 2.0, 30.5, 20.25],
                    "category_id": draw.choice(list(CATEGORIES)),
                    "id": 1001 + len(annotations),
                }
            )
    categories = [{"supercategory": "thing", "id": key, "name": name} for key, name in CATEGORIES.items()]
    return {
        "info": {"description": "This is made up.", "year": 2014},
        "images": images,
        "licenses": [{"id": 1, "name": "Made up"}],
        "annotations": annotations,
        "categories": categories,
    }


def refs_of(held: dict[str, Any], splits: Any, *, sentences: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    """Refs to every object of `instances`, in the fields of the published ones; `splits` gives a picture's split."""
    draw = random.Random(seed)
    words = ["left", "right", "man", "in", "blue", "shirt", "small", "dog", "near", "café", "2nd"]
    refs: list[dict[str, Any]] = []
    sent_id = 0
    for annotation in held["annotations"]:
        number = annotation["image_id"]
        sents = []
        for _ in range(sentences):
            tokens = draw.sample(words, draw.randint(1, 5))
            said = " ".join(tokens)
            sents.append({"tokens": tokens, "raw": said.title(), "sent_id": sent_id, "sent": said})
            sent_id += 1
        refs.append(
            {
                "sent_ids": [one["sent_id"] for one in sents],
                "file_name": picture_name(number).replace(".jpg", f"_{len(refs)}.jpg"),
                "ann_id": annotation["id"],
                "ref_id": len(refs),
                "image_id": number,
                "split": splits(number),
                "sentences": sents,
                "category_id": annotation["category_id"],
            }
        )
    return refs


def write_refcoco(
    folder: Path,
    *,
    dataset: str = "refcoco",
    by: str = "unc",
    pictures: int = 6,
    objects: int = 2,
    splits: tuple[str, ...] = ("train", "train", "train", "val", "testA", "testB"),
    change: Any = None,
) -> Path:
    """A root of RefCOCO with one of its sets; `change(instances, refs)` may break something before it is written."""
    held = instances(pictures, objects)
    refs = refs_of(held, lambda number: splits[(number - 101) % len(splits)])
    if change is not None:
        change(held, refs)
    place = folder / dataset
    place.mkdir(parents=True, exist_ok=True)
    (place / "instances.json").write_text(json.dumps(held))
    (place / f"refs({by}).p").write_bytes(python2_pickle(refs))
    images = folder / "images/mscoco/images/train2014"
    if not images.exists():
        write_pictures(images, range(101, 101 + pictures))
    return folder


def write_large_refcoco(folder: Path, pictures: int = 17_000) -> None:
    """A training split: so many pictures of 640x480 with ten objects each, three expressions about every fourth."""
    held = instances(pictures, 10, points=30, size=(640, 480))
    spoken_of = {"annotations": held["annotations"][::4]}
    (folder / "refcoco").mkdir(parents=True)
    (folder / "refcoco/instances.json").write_text(json.dumps(held))
    refs = refs_of(spoken_of, lambda number: "train")
    (folder / "refcoco/refs(unc).p").write_bytes(python2_pickle(refs))
    write_pictures(folder / "images/mscoco/images/train2014", range(101, 101 + pictures), (640, 480))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=write_large_refcoco.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=17_000)
    write_large_refcoco(**vars(parser.parse_args()))
