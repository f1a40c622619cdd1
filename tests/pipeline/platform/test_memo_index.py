"""Places of records are found again by their keys, before and after they are sorted into the arrays."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.platform import memo_index
from pipeline.platform.memo import Memo
from pipeline.platform.memo_index import MemoIndex, Place


def test_the_first_place_of_each_key_is_found_whenever_it_was_sorted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memo_index, "NEW", 64)
    index = MemoIndex()
    places = {f"key-{at}": Place(f"{at % 3}.seg", at << 33, at) for at in range(1000)}
    for key, place in places.items():
        index.add(key, place)
        index.add(key, Place("later.seg", 1, 1))
    assert {key: index.get(key) for key in places} == places
    assert index.get("key-1000") is None


def test_another_key_of_the_same_hash_is_not_taken_for_the_one_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memo_index, "hash", lambda key: 7, raising=False)
    memo = Memo(tmp_path)
    memo.put("a", '{"of": "a"}')
    assert (memo.get("a"), memo.get("b")) == ('{"of": "a"}', None)
    memo.close()
