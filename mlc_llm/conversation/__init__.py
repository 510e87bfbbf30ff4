"""A conversation: its messages, and the prompt that a template makes of them.

A template is a named one, which is data, or the model's own, which is a program in Jinja
(:mod:`mlc_llm.conversation.jinja`). Of a named one the prompt is laid out as MLC LLM's conversation
protocol does it, with these differences, which keep a prompt what the models were trained on:

- the text of a special token (``</s>``) is that token only where the template holds it; in a
  message it is plain text;
- a generated answer enters the next prompt by its token ids, after what it was generated after;
- the token that begins a sequence is never given twice.

For Llama-2 the ids are those of Meta's own code, which transformers calls ``legacy=True``: the text
after each ``<s>`` and ``</s>`` begins with SentencePiece's dummy prefix space. MLC's template adds
a space after the last ``[/INST]``, which the official Jinja template does not have.
"""

from mlc_llm.conversation.conversation import ChatTemplate, Conversation
from mlc_llm.conversation.message import Message
from mlc_llm.tokenizer.chat_template import JinjaTemplate, read_jinja_template

__all__ = ["ChatTemplate", "Conversation", "JinjaTemplate", "Message", "read_jinja_template"]
