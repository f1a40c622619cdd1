"""Vectors of sentences lie near where the sentences mean alike, and stand for their text alone."""

from __future__ import annotations

import numpy as np
import pytest

from models.sentences import WIDTH, SentenceEncoder


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(threads=1)


def test_sentences_of_one_meaning_are_nearest(encoder: SentenceEncoder) -> None:
    one = encoder.encode(["Chop the onion.", "Tighten the screw.", "Thanks for watching."])
    other = encoder.encode(
        ["Cut up an onion.", "Fasten the bolt with a wrench.", "Thank you for viewing my video."]
    )
    assert one.dtype == np.float32 and one.shape == (3, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    assert (one @ other.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_a_vector_depends_on_its_text_alone(encoder: SentenceEncoder) -> None:
    together = encoder.encode(["Stir.", "A much longer sentence about soup and what is stirred into it."])
    np.testing.assert_array_equal(together[:1], encoder.encode(["Stir."]))


def test_no_text_and_an_empty_one(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, WIDTH)
    assert np.isfinite(encoder.encode(["", "word " * 5000])).all()
