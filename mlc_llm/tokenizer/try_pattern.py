"""``python -m mlc_llm.tokenizer.try_pattern JSON``: split short texts by patterns, and end.

The index of each pattern is written on stdout before it is tried. Whoever runs it sets a deadline;
see :mod:`mlc_llm.tokenizer.split_patterns`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import product

import tokenizers

from mlc_llm.registry.child import exit_with_parent

_COMMON = "aA1 \n.-\u00e9\u4e2d"
_MOST_LETTERS = 8
_LENGTHS = (25, 200)


def texts(pattern: str) -> Iterator[str]:
    """Texts that let a pattern backtrack: runs of what it takes, followed by what it does not.

    Args:
        pattern: the regular expression.
    """
    plain = re.sub(r"\\[pP]\{[^}]*\}|\\.|\(\?[^:=!>]*[:=!>]", "", pattern)
    own = dict.fromkeys(letter for letter in plain if letter not in "()[]{}|*+?^$\\")
    letters = list(dict.fromkeys([*list(own)[:_MOST_LETTERS], *_COMMON]))
    ends = ["\x01", "\x01" + "".join(own)]
    for length, end in product(_LENGTHS, ends):
        for letter in letters:
            yield letter * length + end
        for first, second in product(letters[:_MOST_LETTERS], repeat=2):
            if first != second:
                yield (first + second) * (length // 2) + end


def main() -> None:
    """Try the patterns that the command line has."""
    exit_with_parent()
    for index, pattern in enumerate(json.loads(sys.argv[1])):
        print(index, flush=True)
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        for text in texts(pattern):
            split.pre_tokenize_str(text)


if __name__ == "__main__":
    main()
