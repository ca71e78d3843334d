"""Data folders: one format for generated scenes and for your own data, read and written here.

A data folder contains::

    dataset.json        the units and ranges of the numbers
    samples.jsonl       one sample per line
    images/             pictures: PNG, JPEG or any other format that `perceptio.ops.image_files.read_image` reads
    depth/              depth maps: 16-bit gray PNG, or NPY
    masks/              objects: indexed or gray PNG
    maps/               other values of each pixel, by name: 8-bit PNG, or NPY

Unknown keys in either file are errors, so a misspelled key is never silently ignored.

**Samples.** Each line of `samples.jsonl` is one object::

    {"id": "kitchen-1", "image": "images/kitchen-1.jpg", "depth": "depth/kitchen-1.png",
     "masks": "masks/kitchen-1.png",
     "maps": {"edges": "maps/edges/kitchen-1.png", "normals": "maps/normals/kitchen-1.npy"},
     "turns": [
       {"task": "referring", "question": "Please segment the cup in this image.",
        "answer": "Sure, it is segmented.", "objects": [1]},
       {"task": "relative_depth", "question": "Which point is closest to the camera?", "answer": "(B)",
        "points": [[0.25, 0.5], [0.7, 0.625]]}]}

`id` and `turns` are required. Depth, masks and maps have the size of the picture as displayed, after its EXIF
rotation. A sample may have any of the maps that `dataset.json` declares. A sample without `image` is a conversation
without a picture: it has turns, and no depth, masks, maps or points.

In a mask PNG, the value of a pixel is the number of its object, or 0 if there is none. Alternatively, `masks` lists
masks in the line itself as COCO RLE, which may overlap: `[{"id": 1, "size": [H, W], "counts": [zeros, ones, zeros,
…]}]`, with runs down the columns. `counts` may also be COCO's compressed string of them.

By default, the turns are separate questions about one picture. They may be asked in any order and any combination.
With `"ordered": true` they are one conversation, in which each turn may refer to earlier ones; training uses it whole
and in this order. A turn has these keys, of which `task`, `question` and `answer` are required:

- `task`: the name of the task. The answer of a `relative_depth` turn is a letter in parentheses.
- `question`, `answer`: text.
- `objects`: the numbers of the objects that the answer segments, in order of mention.
- `points`: the marked points as (x, y) in [0, 1], x to the right and y down, lettered A, B, … in order.
- `id`: the name of the question in its source, such as `"ref1023-sent5567"`, so that its answer can be compared with
  other answers to it.

**Numbers.** `dataset.json` is one object::

    {"format": "perceptio-data", "version": 1, "depth": {"unit": "metres", "scale": 0.00025},
     "maps": {"edges": {"channels": 1, "low": 0.0, "high": 1.0},
              "normals": {"channels": 3, "low": -1.0, "high": 1.0}}}

`depth.unit` is `"metres"` (along the optical axis or along the ray, as the creator of the data chooses) or
`"disparity"` (relative inverse depth of any scale, larger is nearer). A 16-bit PNG stores integers: `value *
depth.scale` is the depth in that unit, and 0 means unknown. An NPY file stores float32 [H, W] in that unit, with NaN
for unknown, and needs no scale. A folder without depth omits `depth`.

`maps` declares the maps that samples may have:

- Names consist of letters, digits, `_` and `-`, and are not `depth`, `image`, `masks` or `objects`.
- `channels` is 1 or 3, and values range from `low` to `high`.
- An 8-bit PNG, gray or RGB, stores integers: `low + value / 255 * (high - low)` is the value of a pixel. All pixels
  are known.
- An NPY file stores float32 [H, W] or [H, W, channels], with NaN in all channels of an unknown pixel.
- Values outside the range by at most a thousandth of it, as rounding may cause, are clipped. Others are errors.
- A folder without maps omits `maps`.

**Paths.** Paths in `samples.jsonl` are relative to the folder, use `/`, and stay inside the folder. The same applies
to the targets of symbolic links. Files may also stay elsewhere: `"roots": {"coco": "/data/coco/train2017", "depth":
"../coco-depth"}` in `dataset.json` names other folders, absolute or relative to this one. A path such as
`"coco:000000000009.jpg"` begins with the name of a root, which consists of letters, digits, `_` and `-`. Several data
folders can thus share pictures and depth maps. The path after the name obeys the same rules as a path inside the
folder, and must stay inside the root. The root itself may be any folder, so look at the roots of a data folder from
someone else before you open it.

**Encoding and limits.** A line is UTF-8 and ends with a newline character and nothing else. It is JSON without NaN,
infinity or half a surrogate pair. Pictures have at most 50 million pixels. Every size that a file states is checked
before anything is decoded.

A folder can be packed into shards that can be read from anywhere; see `perceptio.data.folder.shards`. The index of a
large folder's lines is kept beside them; see `perceptio.data.folder.line_index`.
"""

from perceptio.data.folder.dataset import FolderDataset
from perceptio.data.folder.dataset_info import DatasetInfo, MapInfo
from perceptio.data.folder.stream_writer import FolderWriter
from perceptio.data.folder.writer import Entry, write_folder

__all__ = ["DatasetInfo", "Entry", "FolderDataset", "FolderWriter", "MapInfo", "write_folder"]
