"""Conversation templates for mlc-llm, a module for each family of models.

A module holds templates, mappings of the fields of ``mlc_llm.plugin.ConversationTemplate``, which
the entry points name one by one. They are data only: nothing here imports mlc-llm, which validates
a template when it is used.

Names are those of MLC LLM's registry, and values too, but where its prompt is not what the models
were trained on: a module's docstring says what is mended, and the README what still differs.
"""
