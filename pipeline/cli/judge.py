"""Options of ``evaluate``, and its judge: which endpoint it is, and what it may cost."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import UsageError
from pipeline.platform.command import folder_to_write

if TYPE_CHECKING:
    from models.language import LanguageClient

ANSWERS, LEDGER = "answers", "ledger"
RATING = "rating"
"""Folder below ``--out`` of a blind sheet for people and of its key."""


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all evaluations share: where the table goes, the judge, ratings of people."""
    parser.add_argument(
        "--out", type=folder_to_write, required=True, metavar="DIR", help="where the table goes"
    )
    parser.add_argument(
        "--ratings", nargs="+", type=Path, default=[], metavar="FILE",
        help="ratings that a blind sheet of the same --out saved",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of sampling and intervals")
    parser.add_argument("--judge", metavar="URL", help="OpenAI-compatible endpoint that sees pictures")
    parser.add_argument("--judge-model", metavar="NAME", help="as that endpoint calls it")
    parser.add_argument(
        "--judge-key-env", default="OPENAI_API_KEY", metavar="NAME",
        help="environment variable with its key (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--judge-schema-form", choices=("json_schema", "json_object"), default="json_schema",
        help="how it takes a JSON schema (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--judge-prices", nargs=2, type=_amount, default=(0.0, 0.0), metavar=("IN", "OUT"),
        help="US dollars for a million tokens read and written",
    )  # fmt: skip
    parser.add_argument(
        "--judge-max-usd", type=_amount, metavar="USD", help="what all judging in --out may cost together"
    )


def check_judge(parsed: argparse.Namespace) -> None:
    """Check that the options go together.

    Raises:
        UsageError: they do not.
    """
    if (parsed.judge is None) != (parsed.judge_model is None):
        raise UsageError("--judge and --judge-model go together")
    if parsed.judge is not None and not parsed.judge.startswith(("http://", "https://")):
        raise UsageError(f"--judge {parsed.judge}: an address begins with http:// or https://")
    if parsed.judge_max_usd is not None and not any(parsed.judge_prices):
        raise UsageError("--judge-max-usd wants --judge-prices IN OUT, or nothing has a cost")


@contextmanager
def judge_client(parsed: argparse.Namespace, out: Path) -> Iterator[LanguageClient]:
    """Yield the client of the judge; its answers are kept in ``out/answers`` and are not paid for twice.

    Raises:
        models.errors.BudgetError: the budget is spent; the text names the option.
    """
    from models.budget import Budget
    from models.errors import BudgetError
    from models.language import Endpoint, LanguageClient
    from models.ledger import Ledger
    from pipeline.platform.memo import Memo

    endpoint = Endpoint(
        base_url=parsed.judge,
        model=parsed.judge_model,
        api_key_env=parsed.judge_key_env,
        schema_form=parsed.judge_schema_form,
        input_price=parsed.judge_prices[0],
        output_price=parsed.judge_prices[1],
    )
    with closing(Ledger(out / LEDGER, Budget(max_usd=parsed.judge_max_usd))) as ledger:
        ledger.resume()
        with closing(Memo(out / ANSWERS)) as memo:
            try:
                yield LanguageClient(endpoint, memo, ledger=ledger, stage="judge")
            except BudgetError as error:
                raise BudgetError(
                    f"the judge has cost what it may: raise --judge-max-usd, which is "
                    f"{parsed.judge_max_usd:g}; what was answered is kept in {out / ANSWERS}"
                ) from error
            finally:
                for total in ledger.totals():
                    tokens = total.input_tokens + total.output_tokens
                    print(
                        f"{total.model} as judge, so far: {total.requests} requests, {tokens:,} tokens, "
                        f"{total.usd:.4g} US dollars"
                    )


def _amount(text: str) -> float:
    amount = float(text)
    if not 0 <= amount < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no amount of money")
    return amount
