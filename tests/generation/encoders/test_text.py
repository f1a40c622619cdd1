"""Caption tokens from real encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from generation import config
from generation.encoders.text import load_text
from pipeline.platform.config import ConfigError


def test_minilm_tokens_depend_on_the_words_not_on_the_neighbours() -> None:
    text = load_text(config.TextEncoder(max_tokens=16))
    tokens, mask = text.encode(["chop the onion", "a much longer caption about frying rice in a wok"])
    assert text.width == 384
    assert tokens.shape == (2, 16, 384) and mask.shape == (2, 16) and mask.dtype == torch.bool
    assert mask[0].sum() == 5  # [CLS] chop the onion [SEP]
    assert bool((tokens[~mask] == 0).all()) and bool((tokens[mask] != 0).any(1).all())
    alone, _ = text.encode(["chop  the\nonion"])
    torch.testing.assert_close(alone[0], tokens[0], atol=1e-5, rtol=1e-4)
    pooled = torch.nn.functional.normalize(
        torch.stack([text.encode([caption])[0][0].sum(0) for caption in ("slice the onion", "a red car")]),
        dim=1,
    )
    anchor = torch.nn.functional.normalize(tokens[0].sum(0), dim=0)
    assert anchor @ pooled[0] > anchor @ pooled[1] + 0.2


def test_long_captions_are_cut() -> None:
    tokens, mask = load_text(config.TextEncoder(max_tokens=8)).encode(["onion " * 50])
    assert tokens.shape == (1, 8, 384) and bool(mask.all())


@pytest.mark.parametrize("tokenizer_beside", [True, False], ids=["pipeline", "folder"])
def test_a_t5_encoder_is_read_from_its_folder(tokenizer_beside: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = UMT5Config(vocab_size=32, d_model=24, d_kv=6, d_ff=32, num_layers=1, num_heads=4)
    encoder = UMT5EncoderModel(sizes).eval()
    encoder.save_pretrained(tmp_path / "text_encoder")
    words = {"<pad>": 0, "<unk>": 2, "chop": 3, "onion": 4}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>")
    tokenizer.save_pretrained(tmp_path / ("tokenizer" if tokenizer_beside else "text_encoder"))
    options = config.TextEncoder(kind="pretrained", path=tmp_path / "text_encoder", max_tokens=5)
    text = load_text(options)
    assert text.width == 24
    tokens, mask = text.encode(["chop onion"])
    assert mask.tolist() == [[True, True, False, False, False]]
    with torch.no_grad():
        expected = encoder(input_ids=torch.tensor([[3, 4]])).last_hidden_state[0]
    torch.testing.assert_close(tokens[0, :2], expected, atol=1e-5, rtol=1e-4)
    assert bool((tokens[0, 2:] == 0).all())


def test_a_folder_without_an_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"generator\.text\.path: {tmp_path} holds no config\.json"):
        load_text(config.TextEncoder(kind="pretrained", path=tmp_path))
