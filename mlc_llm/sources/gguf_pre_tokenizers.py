r"""How the tokenizers of byte-level BPE split text, by the names of ``tokenizer.ggml.pre``.

A GGUF file does not hold the regular expressions of its tokenizer, but a name. What each name
means is in llama.cpp's ``src/llama-vocab.cpp``, and in the ``tokenizer.json`` of the model that it
is named after. Where the two differ (llama.cpp's expressions avoid ``(?i:...)`` and Unicode's
categories of letters, and it does not compose text), this is the model's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True)
class PreTokenizer:
    """How text is split into the pieces that BPE joins characters in.

    Args:
        patterns: regular expressions in Oniguruma's syntax. Each splits the pieces that those
            before it left: what it matches becomes pieces, and so does what is between.
        ignores_merges: whether a piece that is a token as a whole is that token, whatever the
            merges would make of it.
        adds_bos: whether a text begins with BOS where the file does not say.
        composes: whether text is brought to Unicode's normal form C first.
    """

    patterns: tuple[str, ...]
    ignores_merges: bool = False
    adds_bos: bool = False
    composes: bool = False


_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CJK = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+"
_HAN_AND_KANA = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"

_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_BLOOM = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"

# The letters with cases that the tokenizer of DeepSeek LLM knows: those of an older Unicode.
_CASED_LETTERS = """
    41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386
    388-38A 38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA
    1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57
    1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB
    1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D
    212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3
    A640-A66D A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A
    FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF
    1E900-1E943
"""


def _ranges(text: str) -> str:
    """Ranges of code points as a character class has them."""
    return "".join("-".join(rf"\x{{{end}}}" for end in one.split("-")) for one in text.split())


def _words(numbers: str, marks: str = "") -> str:
    """The expression of tiktoken's ``cl100k_base``, and of many after it.

    Args:
        numbers: how numbers are split.
        marks: a category that counts as letters, too.
    """
    return (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}{marks}]+|{numbers}"
        rf"| ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*|{_SPACES}"
    )


def _cased_words(numbers: str, contractions: str) -> str:
    """The expression of tiktoken's ``o200k_base``, which also splits where the case changes.

    Args:
        numbers: how numbers are split.
        contractions: what may follow a word.
    """
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{contractions}"
        rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{contractions}"
        rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
    )


_GPT_2_LIKE = PreTokenizer((_GPT_2,))
_NEOX_LIKE = PreTokenizer((_GPT_2,), composes=True)
_DIGIT_BY_DIGIT = PreTokenizer((r"\p{N}", _GPT_2))
_CL100K_LIKE = PreTokenizer((_words(r"\p{N}{1,3}"),))
_QWEN_2_LIKE = PreTokenizer((_words(r"\p{N}"),), composes=True)
_LLAMA_3_LIKE = replace(_CL100K_LIKE, ignores_merges=True, adds_bos=True)
_O200K_LIKE = PreTokenizer((_cased_words(r"\p{N}{1,3}", f"{_CONTRACTIONS}?"),), ignores_merges=True)
_DEEPSEEK_3_LIKE = PreTokenizer(
    (
        r"\p{N}{1,3}",
        _HAN_AND_KANA,
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
        r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + _SPACES,
    )
)
_BAILING_LIKE = PreTokenizer(
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
        r"|\s*[\r\n]|\s+(?!\S)|\s+",
    )
)

DEFAULT = "default"
"""What llama.cpp takes for a file without the key."""

PRE_TOKENIZERS = MappingProxyType(
    {
        DEFAULT: PreTokenizer(
            (r"[\p{P}\$\+<=>\^~\|]+", _GPT_2, r"\p{N}+", "[0-9][0-9][0-9]"),
        ),
        "a.x-4.0": _GPT_2_LIKE,
        "bailingmoe": _BAILING_LIKE,
        "bailingmoe2": _BAILING_LIKE,
        "bloom": PreTokenizer((_BLOOM,)),
        "chatglm-bpe": _CL100K_LIKE,
        "codeshell": _DIGIT_BY_DIGIT,
        "command-r": replace(_DIGIT_BY_DIGIT, composes=True),
        "dbrx": _CL100K_LIKE,
        "deepseek-coder": PreTokenizer(
            (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}"),
        ),
        "deepseek-llm": PreTokenizer(
            (
                r"[\r\n]",
                rf"\s?[{_ranges(_CASED_LETTERS)}]+",
                rf"\s?[{_ranges('21-2F 3A-7E FF01-FF0F FF1A-FF5E 2018-201F 3000-3002')}]+",
                r"\s+$",
                _CJK,
                r"\p{N}+",
            )
        ),
        "deepseek-r1-qwen": _QWEN_2_LIKE,
        "deepseek-v3": _DEEPSEEK_3_LIKE,
        "exaone": _DIGIT_BY_DIGIT,
        "exaone4": _GPT_2_LIKE,
        "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT_2, "[0-9][0-9][0-9]")),
        "falcon-h1": _LLAMA_3_LIKE,
        "falcon3": _LLAMA_3_LIKE,
        "gigachat": _GPT_2_LIKE,
        "glm4": _CL100K_LIKE,
        "gpt-2": _GPT_2_LIKE,
        "gpt-4o": _O200K_LIKE,
        "gpt3-finnish": PreTokenizer((_BLOOM,)),
        "granite-docling": _GPT_2_LIKE,
        "grok-2": PreTokenizer((_words(r"\p{N}"),)),
        "hunyuan": PreTokenizer((_words(r"\p{N}"),)),
        "hunyuan-dense": _DEEPSEEK_3_LIKE,
        "jais": _GPT_2_LIKE,
        "kanana2": replace(_O200K_LIKE, ignores_merges=False),
        "lfm2": _LLAMA_3_LIKE,
        "llada-moe": _BAILING_LIKE,
        "llama-bpe": _LLAMA_3_LIKE,
        "llama-v3": _LLAMA_3_LIKE,
        "llama3": _LLAMA_3_LIKE,
        "llama4": _O200K_LIKE,
        "megrez": _QWEN_2_LIKE,
        "mellum": _GPT_2_LIKE,
        "midm-2.0": _LLAMA_3_LIKE,
        "minerva-7b": _DIGIT_BY_DIGIT,
        "minimax-m2": replace(_O200K_LIKE, ignores_merges=False),
        "mpt": _NEOX_LIKE,
        "olmo": _NEOX_LIKE,
        "phi-2": _GPT_2_LIKE,
        "pixtral": _LLAMA_3_LIKE,
        "poro-chat": PreTokenizer((_BLOOM,)),
        "qwen2": _QWEN_2_LIKE,
        "qwen35": PreTokenizer((_words(r"\p{N}", r"\p{M}"),), composes=True),
        "refact": _DIGIT_BY_DIGIT,
        "seed-coder": PreTokenizer(
            (
                rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}"
                rf"| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",
            )
        ),
        "smaug-bpe": _CL100K_LIKE,
        "smollm": _DIGIT_BY_DIGIT,
        "solar-open": PreTokenizer((_words(r"\p{N}"),)),
        "stablelm2": PreTokenizer((_words(r"\p{N}"),)),
        "starcoder": _DIGIT_BY_DIGIT,
        "tekken": PreTokenizer((_cased_words(r"\p{N}", ""),), ignores_merges=True, adds_bos=True),
        "trillion": _GPT_2_LIKE,
        "viking": PreTokenizer((_BLOOM, r"\p{N}")),
    }
)
"""The pre-tokenizers that are known, by name."""
