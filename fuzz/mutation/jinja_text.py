"""Damaging Jinja templates: in their tags and expressions, and in their bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from fuzz.mutation.odd_values import NUMBERS, TEXTS
from fuzz.mutation.raw_bytes import mutate_bytes

_TAG = re.compile(r"\{[{%#].*?[}%#]\}", re.DOTALL)
_EXPRESSION = re.compile(r"\{\{-?.*?\}\}", re.DOTALL)

_AS_BYTES = 0.1
_DEEPEST = 3
"""Levels of an expression that is made."""

_VALUES = (
    *("messages", "messages[0]", "messages[-1].content", "messages[0]['role']", "message", "m"),
    *("tools", "documents", "bos_token", "eos_token", "add_generation_prompt", "ns.x", "x", "a"),
    *("loop", "loop.index", "loop.previtem", "self", "caller", "varargs", "kwargs", "none", "true"),
    *(
        "''",
        "'a'",
        "'ab' ",
        "'%s'",
        "'%5d'",
        "'{}'",
        "'{0[a]}'",
        "'{:>9}'",
        "'\\n'",
        "'<s>'",
        "' '",
    ),
    *(
        "0",
        "1",
        "-1",
        "3",
        "50",
        "4096",
        "1.5",
        "[]",
        "[1, 2]",
        "(1,)",
        "{}",
        "{'a': 1}",
        "namespace",
    ),
    *("range(9)", "range(100000)", "dict(a=1)", "namespace(x='a')", "cycler(1, 2)", "joiner()"),
    *("strftime_now('%Y')", "raise_exception", "raise_exception('no')", "missing", "missing.more"),
)
_METHODS = (
    *("capitalize casefold center count encode endswith expandtabs find format format_map").split(),
    *("index isdigit isspace join ljust lower lstrip partition removeprefix removesuffix").split(),
    *("replace rfind rjust rpartition rsplit rstrip split splitlines startswith strip").split(),
    *("swapcase title translate upper zfill append extend insert pop remove sort reverse").split(),
    *("clear copy fromkeys get items keys popitem setdefault update values cycle changed").split(),
    *("__class__ __init__ __globals__ __mro__ __format__ __getitem__ _runs of x name").split(),
)
_FILTERS = (
    *("abs attr batch capitalize center count d default dictsort e escape filesizeformat").split(),
    *(
        "first float forceescape format groupby indent int items join last length list lower"
    ).split(),
    *("map max min pprint random reject rejectattr replace reverse round safe select").split(),
    *("selectattr slice sort string striptags sum title tojson trim truncate unique upper").split(),
    *("urlencode urlize wordcount wordwrap xmlattr nothing").split(),
)
_TESTS = (
    *("boolean callable defined divisibleby eq equalto escaped even false filter float ge").split(),
    *("gt in integer iterable le lower lt mapping ne none number odd sameas sequence").split(),
    *("string test true undefined upper nothing").split(),
)
_SIGNS = (*"+ - * / // % ** ~ == != < <= > >= and or".split(), "in", "not in")
_GROWING = (
    *("ns.x + ns.x", "ns.x ~ ns.x", "[ns.x, ns.x]", "ns.x * 9", "(ns.x, ns.x)", "{'a': ns.x}"),
    *("'%s%s' % (ns.x, ns.x)", "'{0}{0}'.format(ns.x)", "ns.x.join(ns.x)", "ns.x | join(ns.x)"),
    *("ns.x | replace('a', ns.x)", "ns.x | indent(99)", "ns.x | tojson", "ns.x | list", "[ns.x]"),
    *("ns.x | string", "ns.x.center(4096)", "ns.x | batch(3, ns.x) | list", "dict(a=ns.x, b=ns.x)"),
)
"""What grows when it is done again and again."""
_STATEMENTS = (
    "{{% for m in {0} %}}{{{{ {1} }}}}{{% endfor %}}",
    "{{% for a in {0} recursive %}}{{{{ loop({1}) }}}}{{% endfor %}}",
    "{{% for i in range(50) %}}{{% set ns.x = {0} %}}{{% endfor %}}{{{{ {1} }}}}",
    "{{% if {0} is {2} %}}{{{{ {1} }}}}{{% endif %}}",
    "{{% set x = {0} %}}{{{{ {1} }}}}",
    "{{% set x %}}{{{{ {0} }}}}{{{{ {1} }}}}{{% endset %}}{{{{ x }}}}",
    "{{% macro f(a) %}}{{{{ {0} }}}}{{{{ f({1}) }}}}{{% endmacro %}}{{{{ f(messages) }}}}",
    "{{% macro f(a) %}}{{{{ caller({0}) }}}}{{% endmacro %}}{{% call(a) f(1) %}}{{{{ {1} }}}}"
    "{{% endcall %}}",
    "{{% block b %}}{{{{ {0} }}}}{{{{ self.b() if {1} }}}}{{% endblock %}}",
    "{{% filter {3} %}}{{{{ {0} }}}}{{% endfilter %}}",
    "{{% with x = {0} %}}{{{{ {1} }}}}{{% endwith %}}",
    "{{% generation %}}{{{{ {0} }}}}{{% endgeneration %}}",
    "{{% include {0} %}}",
    "{{% autoescape {0} %}}{{{{ {1} }}}}{{% endautoescape %}}",
    "{{% import {0} as y %}}",
    "{{% raw %}}{{{{ {0} }}}}{{% endraw %}}",
    "{{% break %}}",
    "{{% continue %}}",
    "{{{{ {0} }}}}",
)


def mutate_template(content: bytes, random: Random) -> bytes:
    """Change a few tags of a template, or some of its bytes.

    Args:
        content: the template, in UTF-8.
        random: decides what is changed.
    """
    if random.random() < _AS_BYTES:
        return mutate_bytes(content, random)
    text = content.decode()
    for _ in range(random.choice((1, 1, 2, 4))):
        text = random.choice(_CHANGES)(text, random)
    return text.encode("utf-8", "surrogatepass")


def _expression(random: Random, depth: int = 0) -> str:
    """Some expression, most often one that makes sense."""
    if depth >= _DEEPEST or random.random() < 0.25:
        return random.choice(_VALUES) if random.random() < 0.9 else _literal(random)
    inner = _expression(random, depth + 1)
    other = _expression(random, depth + 1)
    forms = (
        f"{inner} {random.choice(_SIGNS)} {other}",
        f"({inner}) {random.choice(_SIGNS)} ({other})",
        f"({inner}).{random.choice(_METHODS)}({other})",
        f"({inner}).{random.choice(_METHODS)}()",
        f"({inner}).{random.choice(_METHODS)}",
        f"({inner}) | {random.choice(_FILTERS)}",
        f"({inner}) | {random.choice(_FILTERS)}({other})",
        f"({inner}) | {random.choice(_FILTERS)}({other}, {_expression(random, depth + 1)})",
        f"({inner}) | map({random.choice((*_FILTERS, 'x'))!r}) | list",
        f"({inner}) | map(attribute='content') | join({other})",
        f"({inner}) is {random.choice(_TESTS)}",
        f"({inner})[{other}]",
        f"({inner})[{other}:{random.choice(('', '1', '-1', 'x'))}]",
        f"[{inner}, {other}]",
        f"{{{inner}: {other}}}",
        f"{inner} if {other}",
        f"namespace(x={inner}).x",
        f"range({inner}) | list",
    )
    return random.choice(forms)


def _literal(random: Random) -> str:
    if random.random() < 0.5:
        return str(random.choice(NUMBERS))
    return repr(random.choice(TEXTS)[:100])


def _statement(random: Random) -> str:
    made = (
        _expression(random),
        _expression(random),
        random.choice(_TESTS),
        random.choice(_FILTERS),
    )
    return random.choice(_STATEMENTS).format(*made)


def _growth(text: str, random: Random) -> str:
    """Something that grows, and then an operation with it, in loops."""
    start = random.choice(("'ab'", "[1]", "'a b'", "{}", "3", "messages"))
    grown = random.choice(_GROWING)
    used = _expression(random, 1).replace("messages", "ns.x")
    grow = f"{{% for i in range({random.choice((9, 20, 50, 5000))}) %}}{{% set ns.x = {grown} %}}"
    use = f"{{% for i in range({random.choice((1, 100, 100000))}) %}}{{% set y = {used} %}}"
    start = f"{{% set ns = namespace(x={start}) %}}"
    return f"{start}{grow}{{% endfor %}}{use}{{% endfor %}}{text}"


def _tag(text: str, random: Random, pattern: re.Pattern[str] = _TAG) -> re.Match[str] | None:
    tags = list(pattern.finditer(text))
    return random.choice(tags) if tags else None


def _insert_statement(text: str, random: Random) -> str:
    tag = _tag(text, random)
    at = random.choice((tag.start(), tag.end())) if tag else len(text)
    return text[:at] + _statement(random) + text[at:]


def _exchange_expression(text: str, random: Random) -> str:
    tag = _tag(text, random, _EXPRESSION)
    if tag is None:
        return text
    inner = random.choice((f"{{{{ {_expression(random)} }}}}", _statement(random)))
    return text[: tag.start()] + inner + text[tag.end() :]


def _drop_tag(text: str, random: Random) -> str:
    tag = _tag(text, random)
    return text if tag is None else text[: tag.start()] + text[tag.end() :]


def _repeat_tag(text: str, random: Random) -> str:
    tag = _tag(text, random)
    if tag is None:
        return text
    return text[: tag.start()] + tag[0] * random.choice((2, 10, 300)) + text[tag.end() :]


def _nest(text: str, random: Random) -> str:
    """The whole within itself, as deep as a stack may be."""
    count = random.choice((1, 5, 60, 1500))
    begin, end = random.choice(
        (
            ("{% if true %}", "{% endif %}"),
            ("{% for i in [1] %}", "{% endfor %}"),
            ("{{ " + "(" * 9, ")" * 9 + " }}"),
            ("{{ not ", " }}"),
        )
    )
    return begin * count + text + end * count


def _deep_expression(text: str, random: Random) -> str:
    count = random.choice((20, 200, 3000))
    made = random.choice(
        (
            "(" * count + "1" + ")" * count,
            "[" * count + "]" * count,
            "1" + "+1" * count,
            "'a'" + " ~ 'a'" * count,
            "messages" + "[0]" * count,
            "x" + ".x" * count,
            "'a'" + " | trim" * count,
            "not " * count + "x",
        )
    )
    return f"{{{{ {made} }}}}{text}"


_CHANGES: tuple[Callable[[str, Random], str], ...] = (
    *(_insert_statement,) * 8,
    *(_exchange_expression,) * 6,
    *(_drop_tag, _repeat_tag, _nest, _deep_expression, _growth),
)
