"""Values that programs trip over."""

from __future__ import annotations

from random import Random
from typing import Any

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 256, 65535, 1000003),
    *(2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**31) - 1, -(2**63) - 1),
    *(10**18, 10**100, 0.5, -0.0, 1.5, 1e-320, 1e-7, 1e38, 1e39, 1e308, -1e308),
)

TEXTS = (
    "",
    " ",
    "0",
    "-1",
    "1e999",
    "nan",
    "true",
    "null",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfffy",
    "\ufeff",
    "\u202egnp.exe",
    "\x1b[31m\x1b]0;title\x07",
    "e\u0301" * 40,
    "\u1e9e\u0130\ufb01\u2028",
    "\U0001f469\u200d\U0001f680",
    "\U0010ffff",
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "C:\\x",
    "~root",
    "a/" * 3000,
    "a" * 300,
    "a" * 70000,
    "{user_message}",
    "{system_message}{function_string}{}{0}",
    "%s%n",
    "<s></s><unk><|im_start|>",
    "(a+)+$",
    "[" * 50,
    "\u2581" * 50,
    "<0x0A>",
    "<0xZZ>",
)
"""What a text may be that no one thought of: nothing, no character, half of one, a path, a
placeholder, a pattern that backtracks, commands for a terminal."""


class Raw(str):
    """Text that stands in JSON as it is, valid or not."""


DEPTHS = (50, 99, 101, 400, 990, 1500, 100_000)
RAW = (
    *map(Raw, ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1E400", "0x10", "01", "1.")),
    *map(Raw, ("'a'", "undefined", '"\\u12"', '"\t"', "1" * 4400, "-" + "9" * 20_000, "", "//x\n")),
)


def odd_number(random: Random, near: float | None = None) -> Any:
    """A number at the edge of something, or not far from one that was there."""
    if near is not None and random.random() < 0.4:
        changes = (near + 1, near - 1, -near, near * 2, near / 2, near * 1000, float(near))
        return random.choice(changes)
    return random.choice(NUMBERS)


def odd_text(random: Random, near: str | None = None) -> str:
    """A text that no one thought of, or one that was there with a change."""
    if near and random.random() < 0.4:
        at = random.randrange(len(near) + 1)
        return near[:at] + random.choice(TEXTS)[:100] + near[at + random.randrange(3) :]
    return random.choice(TEXTS)


def nested(random: Random) -> Raw:
    """A value of many levels."""
    depth = random.choice(DEPTHS)
    begin, end = random.choice((("[", "]"), ('{"a":', "}"), ('[{"type":"Sequence","a":', "}]")))
    return Raw(begin * depth + "1" + end * depth)


def odd_value(random: Random) -> Any:
    """Any value, of any type."""
    return random.choice(
        (
            lambda: None,
            lambda: random.random() < 0.5,
            lambda: odd_number(random),
            lambda: odd_number(random),
            lambda: odd_text(random),
            lambda: odd_text(random),
            lambda: random.choice(RAW),
            lambda: nested(random),
            lambda: [],
            lambda: {},
            lambda: [odd_number(random)] * random.choice((1, 2, 1000)),
            lambda: {odd_text(random): odd_number(random)},
            lambda: [odd_text(random), None, odd_number(random), [[]], {}],
        )
    )()
