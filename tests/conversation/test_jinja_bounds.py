"""Chat templates that would run for ever or fill the memory end in an error."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from mlc_llm.conversation.jinja.rendering import ChatRenderer
from mlc_llm.errors import TemplateError
from mlc_llm.testing import raises

MESSAGES = [{"role": "user", "content": "Hello"}]
MOST_BYTES = 2**26


def _repeated(value: str, start: str = "'ab'", then: str = "") -> str:
    """A template that makes something of what it has, fifty times."""
    loop = f"{{% for i in range(50) %}}{{% set ns.x = {value} %}}{{% endfor %}}"
    return f"{{% set ns = namespace(x={start}) %}}{loop}{then}"


def _nested(then: str) -> str:
    """A template that makes a list of 2 ** 50 items, most of them the same ones."""
    return _repeated("ns.x + [ns.x]", "[1]", then)


def _long(body: str) -> str:
    """A template that does something with a text of two million characters, again and again."""
    doubled = "{% for i in range(20) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
    start = "{% set ns = namespace(x='ab', all=[]) %}" + doubled
    return f"{start}{{% for i in range(100000) %}}{body}{{% endfor %}}"


def _for_each(body: str, count: str = "range(100000)") -> str:
    start = "{% set a = range(100000) | list %}"
    return f"{start}{{% for i in {count} %}}{body}{{% endfor %}}"


def _chained(value: str, start: str = "") -> str:
    """A template that keeps everything that it makes: each namespace holds the one before."""
    loop = "{% for i in range(99999) %}{% set ns.all = namespace(x=VALUE, y=ns.all) %}{% endfor %}"
    return "{% set ns = namespace(all=none) %}" + start + loop.replace("VALUE", value)


LOOPS = [
    _for_each("{% for j in a %}{% endfor %}"),
    _for_each("{% for j in a if j < 0 %}{% endfor %}"),
    _for_each("{% for j in a | reverse %}{% endfor %}"),
    _for_each("{% if -1 in a %}{% endif %}"),
    _for_each("{% if 'x' in range(100000) %}{% endif %}"),
    _for_each("{% if a | select('in', a) | list %}{% endif %}"),
    _for_each("{% set b = a[1:] %}"),
    _for_each("{% set b = a | sort %}"),
    _for_each("{% set b = a | sum %}"),
    _for_each("{% set b = a | unique | list %}"),
    _for_each("{% set b = a | tojson %}"),
    _for_each("{% set b = a | join %}"),
    _for_each("{{ a }}"),
    _for_each("{{ '%s' % (a,) }}"),
    _for_each("{{ '{}'.format(a) }}"),
    _for_each("{{ a == messages }}{{ a == a + [] }}"),
    _for_each("{{ a is eq(a) }}"),
    _for_each("{{ a.index(99999) }}"),
    _for_each("{{ i }}", "a * 100"),
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% for i in range(n) %}{{ f(n - 1) }}{% endfor %}{% endmacro %}{{ f(60) }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    _long("{% for c in ns.x %}{% endfor %}"),
    _long("{{ ns.x.split() | length }}"),
    _long("{{ ns.x.rfind('b' + ns.x[:50000]) }}"),
    _long("{% set y = ns.x ~ 'y' %}"),
    _long("{% set y = ns.x.replace('x', 'y') %}"),
    _long("{% set y = ns.x.upper() %}"),
    _long("{% set y = ns.x | title %}"),
    _long("{% set y = ns.x | wordcount %}"),
    _long("{% set y = ns.x | tojson %}"),
    _long("{% set y = ns.x | list %}"),
]
TEXTS = [
    "{{ 'x' * 10**9 }}",
    "{{ ['x'] * 10**9 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%.1000000000f' % 1 }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ ('%1000000000d' | safe) % 1 }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ 'x'.center(10**9) }}",
    "{{ 'x' | center(10**9) }}",
    "{{ 'x'.ljust(10**9) }}",
    "{{ '1'.zfill(10**9) }}",
    "{{ 'x' | indent(10**9) }}",
    "{{ ('x\n' * 4000) | indent(4000) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ [1] | batch(10**9, 'x') | list }}",
    "{{ [1] | slice(10**9) | list }}",
    "{{ 'ab'.strip('a' * 10**5) }}",
    "{{ 10 ** 10 ** 8 }}",
    "{{ 5 | round(-10**9) }}",
    "{% set s %}{% for i in range(9000) %}{{ i * 10**15 }} {% endfor %}{% endset %}"
    "{{ (s ~ s).split() | map('int') | unique | list }}",
    _long("{% set ns.all = ns.all + [namespace(x=ns.x ~ i)] %}"),
    _long("{% set ns.all = ns.all + [namespace(x=ns.x.split('|'))] %}"),
    _long("{% set ns.all = ns.all + [namespace(x=ns.x[1:])] %}"),
    _chained("a[1:]", "{% set a = range(100000) | list %}"),
    _chained("a + a", "{% set a = range(100000) | list %}"),
    _chained("a * 2", "{% set a = range(100000) | list %}"),
    _chained("range(100000) | map('string') | list"),
    _chained("a.split()", "{% set a = 'a ' * 4000 %}"),
    _chained("a | list", "{% set a = 'a ' * 4000 %}"),
    _chained("a ~ i", "{% set a = '\U0001f469' * 4000 %}"),
    _chained("a ~ i", "{% set a = '\U0001f469' * 500 %}"),
    _chained("a ~ i", "{% set a = '\U0001f469' * 200 %}"),
    _repeated("ns.x * ns.x", "3"),
    _repeated("ns.x ~ ns.x"),
    _repeated("ns.x + ns.x"),
    _repeated("ns.x.replace('a', ns.x)"),
    _repeated("ns.x | replace('a', ns.x)"),
    _repeated("ns.x.replace('', ns.x)"),
    _repeated("ns.x.join(ns.x)"),
    _repeated("ns.x | join(ns.x)"),
    _repeated("('%s%s' % (ns.x, ns.x))"),
    _repeated("'{0}{0}'.format(ns.x)"),
    _repeated("'%s%s' | format(ns.x, ns.x)"),
    _repeated("[ns.x, ns.x]", "[1]"),
    _repeated("(ns.x, ns.x)", "(1,)", "{{ {ns.x: 1} }}"),
    _repeated("ns.x + (ns.x,)", "(1,)", "{{ {ns.x: 1} }}"),
    _repeated("ns.x + (ns.x,)", "(1,)", "{% set d = dict([(ns.x, 1)]) %}"),
    _repeated("ns.x + (ns.x,)", "(1,)", "{{ [ns.x] | unique | list }}"),
    _repeated("dict(ns.x, a=ns.x, b=ns.x)", "{}", "{{ ns.x }}"),
    _repeated("ns.x + ns.x", "[1]"),
    _repeated("ns.x * 9", "[1]"),
    _nested("{{ ns.x }}"),
    _nested("{{ ns.x ~ '' }}"),
    _nested("{{ ns.x | string }}"),
    _nested("{{ ns.x | upper }}"),
    _nested("{{ ns.x | tojson }}"),
    _nested("{{ ns.x | tojson(indent=1) }}"),
    _nested("{{ [ns.x] | join }}"),
    _nested("{{ '%s' % (ns.x,) }}"),
    _nested("{{ '{}'.format(ns.x) }}"),
    _nested("{{ '{!r}'.format(ns.x) }}"),
    _nested("{{ ns.x in [[], ns.x + []] }}"),
    _nested("{{ 1 < 2 != (ns.x == ns.x + []) }}"),
    _nested("{{ ns.x | sort }}"),
]


@pytest.mark.parametrize("source", LOOPS)
def test_what_would_take_too_long_is_refused(source: str) -> None:
    with raises("template-unbounded", error=TemplateError):
        ChatRenderer(source, "it").render({"messages": MESSAGES})


@pytest.mark.matrix(source=TEXTS[::5])
@pytest.mark.parametrize("source", TEXTS)
def test_what_would_be_too_large_is_refused(source: str) -> None:
    tracemalloc.start()
    try:
        with raises("template-unbounded", error=TemplateError):
            ChatRenderer(source, "it").render({"messages": MESSAGES})
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def test_what_is_given_is_not_written_again_and_again() -> None:
    """Each character may become a token, and a token takes far more memory."""
    messages = [{"role": "user", "content": "x" * 100_000}]
    twice = ChatRenderer("{{ messages[0].content * 2 }}", "it").render({"messages": messages})
    assert len(twice) == 200_000
    with raises("template-unbounded", 1_000_000, error=TemplateError):
        ChatRenderer("{{ messages[0].content * 10 }}", "it").render({"messages": messages})


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        _repeated("[ns.x]", "[1]", "{{ ns.x }}").replace("50", "5000"),
        "{{ [1] | round(8, 'ceil') }}",
        "{{ '%1000000000d' is divisibleby(1) }}",
        "{{ '%1000000000d' is odd }}",
        "{{ strftime_now('%Y' * 1000) }}",
    ],
)
def test_what_fails_by_itself(source: str) -> None:
    with raises("template-failed", error=TemplateError):
        ChatRenderer(source, "it").render({"messages": MESSAGES})


def test_a_long_conversation_has_what_it_needs() -> None:
    """Real templates look at all messages for each of them, and collect the prompt in a text."""
    source = (
        "{% set ns = namespace(out='') %}{% for m in messages %}"
        "{% for other in messages[loop.index:] if other.role == 'tool' %}{% endfor %}"
        "{% if m.role == 'user' %}{% set ns.out = ns.out ~ m.content | trim | replace('a', 'b') %}"
        "{% else %}{% set ns.out = ns.out + m.content.split('</think>')[-1].lstrip() %}{% endif %}"
        "{% if loop.index0 == messages | length - 1 and tools != none %}{{ m }}{% endif %}"
        "{% endfor %}{{ ns.out }}"
    )
    roles: list[Any] = ["user", "assistant"] * 300
    messages = [{"role": role, "content": "hallo " * 300} for role in roles]
    prompt = ChatRenderer(source, "it").render({"messages": messages, "tools": None})
    assert len(prompt) > 1_000_000


def test_one_rendering_takes_nothing_from_the_next() -> None:
    renderer = ChatRenderer("{% for i in range(20000) %}{{ 'x' }}{% endfor %}", "it")
    assert len({str(renderer.render({})) for _ in range(20)}) == 1
