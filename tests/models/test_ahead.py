"""Items come in order from a thread that ends with the block."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from models.media import read_ahead


def numbers(made: list[int], error_at: int = -1) -> Iterator[int]:
    for number in range(1, 9):
        if number == error_at:
            raise ValueError(f"no {number}")
        made.append(number)
        yield number


def test_all_items_come_in_order() -> None:
    made: list[int] = []
    with read_ahead(numbers(made), most=3) as items:
        assert list(items) == made == list(range(1, 9))


def test_a_block_that_is_left_early_makes_no_more_items() -> None:
    made: list[int] = []
    before = threading.active_count()
    with read_ahead(numbers(made), most=2) as items:
        assert next(items) == 1
    assert len(made) <= 4
    assert threading.active_count() == before


def test_an_error_comes_with_its_item() -> None:
    found = []
    with pytest.raises(ValueError, match="no 3"), read_ahead(numbers([], error_at=3), most=4) as items:
        for item in items:
            found.append(item)  # noqa: PERF402
    assert found == [1, 2]
