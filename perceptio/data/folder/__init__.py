"""Data on disk: generated scenes and data of one's own in one format, read and written here.

A folder holds::

    dataset.json        what the numbers mean
    samples.jsonl       one sample a line
    images/             pictures: PNG, JPEG or whatever `perceptio.ops.image_files.read_image` reads
    depth/              depth maps: 16-bit gray PNG, or NPY
    masks/              objects: indexed or gray PNG
    maps/               whatever else is known of each pixel, by name: 8-bit PNG, or NPY

`dataset.json` is one object::

    {"format": "perceptio-data", "version": 1, "depth": {"unit": "metres", "scale": 0.00025},
     "maps": {"edges": {"channels": 1, "low": 0.0, "high": 1.0},
              "normals": {"channels": 3, "low": -1.0, "high": 1.0}}}

`depth.unit` is `"metres"` (along the optical axis or the ray, as the maker pleases) or `"disparity"` (relative
inverse depth of any scale, near is large). A 16-bit PNG holds `value * depth.scale` in that unit and 0 where depth is
unknown; an NPY file holds float32 [H, W] in that unit and NaN where unknown, and needs no scale. A folder without
depth leaves `depth` out.

`maps` declares the maps that samples may have: names of letters, digits, `_` and `-`, other than `depth`, `image`,
`masks` and `objects`; 1 or 3 `channels`; and the range of their values, from `low` to `high`. An 8-bit PNG, gray or
RGB, holds `low + value / 255 * (high - low)`, of every pixel; an NPY file holds float32 [H, W] or [H, W, channels],
and NaN in all channels of a pixel that is unknown. Values that lie outside the range by at most a thousandth of it,
as rounding may have it, are clipped; others are errors. A folder without maps leaves `maps` out.

Files may stay where they are: `"roots": {"coco": "/data/coco/train2017", "depth": "../coco-depth"}` names folders,
absolute or relative to this one, and a sample's path `"coco:000000000009.jpg"` begins with the name of one. So
several folders share pictures, and one depth map serves them all. Names are of letters, digits, `_` and `-`. The path
inside a root obeys the rules of a path inside the folder and leads nowhere else; but a root itself may be any folder,
so that who opens a data folder of somebody else's looks at its roots first.

Each line of `samples.jsonl` is one object::

    {"id": "kitchen-1", "image": "images/kitchen-1.jpg", "depth": "depth/kitchen-1.png",
     "masks": "masks/kitchen-1.png",
     "maps": {"edges": "maps/edges/kitchen-1.png", "normals": "maps/normals/kitchen-1.npy"},
     "turns": [
       {"task": "referring", "question": "Please segment the cup in this image.",
        "answer": "Sure, it is segmented.", "objects": [1]},
       {"task": "relative_depth", "question": "Which point is closest to the camera?", "answer": "(B)",
        "points": [[0.25, 0.5], [0.7, 0.625]]}]}

`id` and `turns` are required. Paths are relative to the folder or to one of its roots, with `/`, and stay inside it;
so must the places that symbolic links lead to. Depth, masks and maps have the size of the picture (as shown, after
its EXIF rotation). A sample has any of the maps that `dataset.json` declares.
Without `image` a sample is a conversation about no picture: it has turns, and no depth, masks, maps or points.
Of a mask PNG the pixel value is the number of an object, 0 where there is none; `masks` may instead list masks in the
line itself, which may overlap, as COCO RLE: `[{"id": 1, "size": [H, W], "counts": [zeros, ones, zeros, …]}]`, runs
down the columns, or with COCO's compressed string of them as `counts`.
With `"ordered": true` the turns are one conversation, in which each may speak of those before it: it is trained on
whole and in this order. Without it they are questions about one picture, which may be asked in any order and
company. Of a turn, `task`, `question` and `answer` are required; `objects` lists the objects
that the answer segments, in order of mention; `points` are (x, y) in [0, 1], x to the right and y down, lettered A,
B, … in order. The answer of a `relative_depth` turn is a letter in parentheses. `id` is what the question is called
where it comes from, such as `"ref1023-sent5567"`, so that its answer can be put beside others' answers to it.

A line ends with a newline character and with nothing else, is UTF-8 and JSON without NaN, infinity or half a
surrogate pair. Pictures have up to 50 million pixels; every size that a file states is checked before anything is
decoded.

Unknown keys are errors, so that a misspelt one is not silently ignored.

A folder can be packed into shards, which are read from anywhere: `perceptio.data.folder.shards` says how. The index
of a large folder's lines is kept beside them: `perceptio.data.folder.line_index`.
"""

from perceptio.data.folder.dataset import FolderDataset
from perceptio.data.folder.dataset_info import DatasetInfo, MapInfo
from perceptio.data.folder.stream_writer import FolderWriter
from perceptio.data.folder.writer import Entry, write_folder

__all__ = ["DatasetInfo", "Entry", "FolderDataset", "FolderWriter", "MapInfo", "write_folder"]
