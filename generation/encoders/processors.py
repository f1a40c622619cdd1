"""Processors of vision-language models where torchvision is not installed."""

from __future__ import annotations

from typing import Any

import transformers
from transformers.utils.import_utils import is_torchvision_available


def processor_class(name: str) -> Any:
    """Return a processor's class of transformers, without its part for videos if torchvision is missing.

    Raises:
        AttributeError: transformers has no such class.
    """
    kind = getattr(transformers, name)
    return kind if is_torchvision_available() else _for_pictures(kind)


def _for_pictures(kind: Any) -> Any:
    """Return a class without the part for videos; transformers reads the parts off the arguments."""

    class ForPictures(kind):  # type: ignore[misc]
        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **more: Any
        ) -> None:
            super().__init__(
                image_processor=image_processor, tokenizer=tokenizer, chat_template=chat_template, **more
            )

    return ForPictures
