"""Counts have the right number, and names their natural order."""

from perceptio.ops.wording import in_natural_order, number_of


def test_one_is_singular_and_all_else_plural():
    assert [number_of(count, "sample") for count in (0, 1, 2)] == ["0 samples", "1 sample", "2 samples"]
    assert number_of(1204, "category", "categories") == "1,204 categories"


def test_numbers_in_names_are_compared_by_value():
    assert in_natural_order(["vision.layer10", "vision.layer2", "vision", "head", "vision.layer1", "3d"]) == [
        "3d",
        "head",
        "vision",
        "vision.layer1",
        "vision.layer2",
        "vision.layer10",
    ]
