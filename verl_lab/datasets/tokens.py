"""How long rows are, in tokens."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from verl_lab.datasets.content import rows_of
from verl_lab.domain.dataset import TokenCounts
from verl_lab.errors import EnvironmentMismatchError, FormatError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from verl_lab.datasets.content import Part

_ROWS = 10_000
_TRAINED_ON = ("messages", "prompt", "chosen", "rejected")


def count_tokens(parts: Iterable[Part], tokenizer: str | Path) -> TokenCounts | None:
    """Count the tokens of the first 10,000 rows; None if there are no rows.

    What is counted is the text in ``messages``, ``prompt``, ``chosen`` and ``rejected``; in rows that have
    none of them, all text. A chat template adds its own tokens in training.

    Parameters
    ----------
    tokenizer
        A model's folder with a ``tokenizer.json``, or that file.

    Raises
    ------
    NotFoundError
        There is no such file.
    FormatError
        It is no tokenizer, or a file's rows cannot be read.
    EnvironmentMismatchError
        The package ``tokenizers`` is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise EnvironmentMismatchError(
            "Tokens cannot be counted: the package tokenizers is not installed.", "pip install tokenizers"
        ) from None
    file = Path(tokenizer).expanduser()
    file = file / "tokenizer.json" if file.is_dir() else file
    if not file.is_file():
        raise NotFoundError(f"There is no tokenizer at {file}.", "Give a model's folder with a tokenizer.json.")
    try:
        counter = cast("Any", Tokenizer).from_file(str(file))
    except Exception as error:  # the package raises nothing narrower
        raise FormatError(f"{file} is no tokenizer: {error}.") from error
    # One by one: in batches it starts threads, and warns at every process that is started later.
    texts = (_text(row) for row in islice(rows_of(parts), _ROWS))
    counts = np.array([len(counter.encode(text, add_special_tokens=False).ids) for text in texts])
    if not len(counts):
        return None
    return TokenCounts(
        rows=len(counts),
        mean=float(counts.mean()),
        median=float(np.median(counts)),
        p95=float(np.percentile(counts, 95)),
        longest=int(counts.max()),
    )


def _text(row: dict[str, Any]) -> str:
    columns = [row[name] for name in _TRAINED_ON if name in row] or list(row.values())
    return "\n".join(_texts(columns))


def _texts(value: Any) -> Generator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        message = cast("dict[str, Any]", value)
        # The role is a word of the template's.
        yield from _texts([inside for name, inside in message.items() if name != "role"])
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            yield from _texts(item)
