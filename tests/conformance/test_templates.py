"""Every template of the core's own pack, and the fake."""

from __future__ import annotations

import pytest

from mlc_llm.plugin import ConversationTemplate
from mlc_llm.registry.registry import Registry
from mlc_llm.testing import FAKE_TEMPLATE, TemplateConformance

OWN = Registry(allowed=[])


@pytest.mark.parametrize("name", OWN.names("conversation template"))
class TestOurs(TemplateConformance):
    @pytest.fixture
    def conversation_template(self, name: str) -> ConversationTemplate:
        return OWN.template(name)

    @pytest.fixture(autouse=True)
    def _set_template(self, conversation_template: ConversationTemplate) -> None:
        self.template = conversation_template


class TestFake(TemplateConformance):
    template = FAKE_TEMPLATE
