"""Conversation templates for mlc-llm, one module each.

A module holds ``TEMPLATE``, a mapping of the fields of ``mlc_llm.plugin.ConversationTemplate``. It
is data only: nothing here imports mlc-llm, which validates a template when it is used.
"""
