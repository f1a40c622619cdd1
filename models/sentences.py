"""Sentences as vectors: the packaged all-MiniLM-L6-v2, where texts are compared by meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models import weights

WIDTH = 384
MAX_TOKENS = 256


class SentenceEncoder:
    """all-MiniLM-L6-v2: the mean of a text's last hidden states, at unit length.

    Args:
        threads: fixed, so that results are the same wherever they are computed.
    """

    name = "all-MiniLM-L6-v2"

    def __init__(self, *, threads: int) -> None:
        # These take seconds and 300 MB, so a process that needs no encoder is spared them.
        import torch
        from transformers import AutoModel, AutoTokenizer

        self._torch = torch
        torch.set_num_threads(threads)
        folder = weights.minilm()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._network = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, add_pooling_layer=False
        ).eval()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors whose dot product is the cosine similarity of the texts' meanings.

        Args:
            texts: English; longer ones than 256 tokens are cut.

        Returns:
            float32 ``[n, 384]``. A vector depends on its text alone: one at a time goes through the
            network, since a batch's padding moves the last digits.
        """
        vectors = np.zeros((len(texts), WIDTH), np.float32)
        for row, text in enumerate(texts):
            tokens = self._tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            with self._torch.inference_mode():
                mean = self._network(**tokens).last_hidden_state[0].mean(dim=0)
                vectors[row] = self._torch.nn.functional.normalize(mean, dim=0).numpy()
        return vectors
