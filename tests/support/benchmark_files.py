"""Small files in the layouts of published benchmarks."""

import io
import json

import numpy as np
from PIL import Image

ASKED = "Multiple points are circled on the image. Which point is the closest to the camera?"


def picture(number, size=32):
    """A picture of its own color."""
    color = tuple(np.random.default_rng(number).integers(0, 256, 3).tolist())
    return Image.new("RGB", (size, size), color)


def png(number):
    held = io.BytesIO()
    picture(number).save(held, "PNG")
    return held.getvalue()


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def hardblink(folder, count=3, sets=(3, 4, 5)):
    """`count` questions with each number of points; question n is answered by the letter n."""
    for points in sets:
        name = f"{points}pointscenter"
        rows = [
            {"question_id": n, "image": f"{n}.png", "text": ASKED, "category": "count"} for n in range(count)
        ]
        write_lines(folder / "questions" / f"blink_{name}_questions.jsonl", rows)
        answers = [{"question_id": n, "text": f"({'ABC'[n % 3]})", "category": "count"} for n in range(count)]
        write_lines(folder / "answers" / f"blink_{name}_answers.jsonl", answers)
        images = folder / "images" / f"blink{name}"
        images.mkdir(parents=True)
        for n in range(count):
            picture(10 * points + n).save(images / f"{n}.png")
    return folder


def cv_bench_rows():
    """Six questions about five pictures: the first and the fourth are about the same. All published columns."""
    rows = []
    for idx, (task, source, number) in enumerate(
        [
            ("Count", "ADE20K", 0),
            ("Relation", "COCO", 1),
            ("Count", "COCO", 2),
            ("Relation", "ADE20K", 0),
            ("Depth", "Omni3D", 3),
            ("Distance", "Omni3D", 4),
        ]
    ):
        kind = "3D" if source == "Omni3D" else "2D"
        rows.append(
            {
                "idx": idx,
                "type": kind,
                "task": task,
                "question": "Which is it?",
                "choices": ["left", "right"],
                "answer": "(A)" if idx % 2 else "(B)",
                "prompt": "Which is it? Select from the following choices.\n(A) left\n(B) right",
                "filename": f"img/{kind}/{number}.png",
                "source": source,
                "source_dataset": {"ADE20K": "ADE20K Validation Set"}.get(source, source),
                "source_filename": f"{number:08}.jpg",
                "target_class": "person" if source == "COCO" else None,
                "target_size": 3 if source == "COCO" else None,
                "bbox": [[1.0, 2.0, 30.5, 31.0]] if source == "Omni3D" else None,
            }
        )
    return rows


def cv_bench(folder, parquet=False):
    rows = cv_bench_rows()
    for kind in ("2D", "3D"):
        some = [row for row in rows if row["type"] == kind]
        if parquet:
            write_parquet(
                folder / f"test_{kind.lower()}.parquet",
                [row | {"image": {"bytes": png(_number(row)), "path": row["filename"]}} for row in some],
            )
        else:
            write_lines(folder / f"test_{kind.lower()}.jsonl", some)
            for row in some:
                (folder / row["filename"]).parent.mkdir(parents=True, exist_ok=True)
                picture(_number(row)).save(folder / row["filename"])
    return folder


def _number(row):
    return int(row["filename"].split("/")[-1].split(".")[0])


def blink_rows(count=3):
    """Questions with all published columns; of the sub-task's four pictures there is one."""
    return [
        {
            "idx": f"val_Relative_Depth_{n + 1}",
            "question": "Which point is closer to the camera?",
            "sub_task": "Relative_Depth",
            "image_1": {"bytes": png(n), "path": None},
            "image_2": None,
            "image_3": None,
            "image_4": None,
            "choices": ["A is closer", "B is closer"],
            "answer": "(A)" if n % 2 else "(B)",
            "prompt": "Which point is closer?\n(A) A is closer\n(B) B is closer",
            "explanation": None,
        }
        for n in range(count)
    ]


def blink(folder, count=3):
    write_parquet(folder / "Relative_Depth" / "val-00000-of-00001.parquet", blink_rows(count))
    return folder


def write_parquet(path, rows):
    """A parquet file as the hub's are: pictures are `{"bytes", "path"}`, also where there is none.

    It has two rows a group, so that pictures come from several.
    """
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows)
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    fields = [field.with_type(picture) if field.name.startswith("image") else field for field in table.schema]
    told = {"huggingface": json.dumps({"info": {"features": {}}})}
    parquet.write_table(table.cast(pyarrow.schema(fields, metadata=told)), path, row_group_size=2)
