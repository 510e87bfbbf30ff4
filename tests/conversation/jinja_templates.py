"""Chat templates in the manner of known families, with what their real ones ask of Jinja."""

from __future__ import annotations

CHATML = """{%- for message in messages -%}
{%- if loop.first and messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face' }}\
{{ '<|im_end|>\\n' }}
{%- endif -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""
"""As SmolLM2's and Qwen2.5's: a default system message."""

HEADERS = """{{ bos_token }}
{%- set system = '' %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- '<|start|>system<|stop|>\\n\\n' }}
{{- 'Today is ' ~ strftime_now('%d %b %Y') ~ '\\n' }}
{%- if tools %}
    {{- 'Tools:\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- '\\n\\n' }}
    {%- endfor %}
{%- endif %}
{{- system ~ '<|end|>' }}
{%- for message in messages %}
    {%- if message.tool_calls is defined and message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}{{ raise_exception('one call') }}{% endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start|>' + message.role + '<|stop|>\\n\\n{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' ~ call.arguments | tojson ~ '}<|end|>' }}
    {%- elif message.role in ['tool', 'ipython'] %}
        {{- '<|start|>ipython<|stop|>\\n\\n' }}
        {{- message.content | tojson if message.content is mapping else message.content }}
        {{- '<|end|>' }}
    {%- else %}
        {{- '<|start|>%s<|stop|>\\n\\n%s<|end|>' % (message.role, message.content | trim) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\\n\\n' }}{% endif %}
"""
"""As Llama 3.1's: BOS, trimmed contents, a date, tools with an indentation."""

TURNS = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('no system messages here') }}{% endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('roles must alternate') }}
    {%- endif %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<turn>' + role + '\\n' }}
    {%- if message['content'] is string %}{{ message['content'] | trim }}
    {%- else %}
        {%- for part in message['content'] if part.type == 'text' %}
            {{- part.text | trim }}
        {%- endfor %}
    {%- endif %}
    {{- '</turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<turn>model\\n' }}{% endif %}
"""
"""As Gemma's: no system message, another name for the assistant, contents in parts."""

MADE_OF_ROLES = """{% for message in messages %}
{% set content = message['content'] %}
{% if content %}{{ '<|' + message['role'] + '|>\\n' + content + '<|end|>\\n' }}{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
"""
"""As Phi's: control tokens that are made of the role; blocks on lines of their own."""

INSTRUCTIONS = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and message == user_messages[-1] %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, value in tool.items() if key != "return" %}
                    {%- if value is string %}{{ '"' + key + '": "' + value + '"' }}
                    {%- else %}{{ '"' + key + '": ' + value | tojson }}{% endif %}
                    {%- if not loop.last %}{{ ", " }}{% endif %}
                {%- endfor %}
                {{- "}}" if loop.last else "}}, " }}
            {%- endfor %}
            {{- "][/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" + message.tool_calls | map(attribute='function') | map('tojson') |
            join(', ') + "]" + eos_token }}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- elif message["role"] == "tool" %}
        {%- set content = message.content %}
        {%- set content = content.content if content is mapping else content %}
        {{- '[TOOL_RESULTS] {"content": ' + content | string + ", " }}
        {{- '"call_id": "' + message.tool_call_id | default('none') + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("only user, assistant and tool") }}
    {%- endif %}
{%- endfor %}
"""
"""As Mistral v3's: system message before the last user's, tools, ``[INST]``."""

REASONING = """{%- macro answer(text) -%}
    {%- if '</think>' in text %}{{ text.split('</think>')[-1].lstrip('\\n') }}
    {%- else %}{{ text }}{% endif %}
{%- endmacro -%}
{% set ns = namespace(system='', last=-1) %}
{%- for message in messages %}{% if message.role == 'system' %}
{%- set ns.system = ns.system + ('\\n\\n' if not loop.first else '') + message.content %}
{%- endif %}{% endfor %}
{{- bos_token ~ ns.system }}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if message.role == 'user' %}{% set ns.last = index %}{% break %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- if message.role == 'user' %}{{ '<|User|>' ~ message.content }}
    {%- elif message.role == 'assistant' %}
        {{- '<|Assistant|>' }}
        {%- generation %}
            {%- if message.reasoning_content is defined and loop.index0 > ns.last %}
                {{- '<think>\\n' ~ message.reasoning_content.strip('\\n') ~ '\\n</think>\\n\\n' }}
            {%- endif %}
            {{- answer(message.content | default('', true)) ~ eos_token }}
        {%- endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|Assistant|>' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- else %}{{ '<think>\\n' }}{% endif %}
{%- endif %}
"""
"""As DeepSeek's and Qwen3's: reasoning that is left out, loop controls, macros, a variable."""

DOCUMENTS = """{% set content %}{% filter trim %}
{% for document in documents or [] %}
[{{ loop.index }}] {{ document.title | upper }}:
{{ document['text'] | replace('\\n', ' ') | indent(2) }}
{% endfor %}
{% endfilter %}{% endset %}
{{- '<s>{0}|{name}</s>'.format(content, name=(messages | last).name | default('?')) }}
{%- for message in messages -%}
    {{ ['<s>', message.role | capitalize, ': ', message.content.strip(), '</s>'] | join }}
    {%- if message.content.startswith('  ') or message.content | length > 40 %}
        {{- '<long>' }}
    {%- endif %}
    {{- '-' * 3 ~ message.content[:3] ~ message.content[-2] if message.content | length > 1 }}
    {%- for word in message.content.split() %}{{ word.rpartition('a')[2] }}{% endfor %}
{%- endfor %}
{%- if add_generation_prompt %}<s>Assistant:{% endif %}
"""
"""Documents, and many operations on texts."""

ALL = {
    "chatml": CHATML,
    "headers": HEADERS,
    "turns": TURNS,
    "made of roles": MADE_OF_ROLES,
    "instructions": INSTRUCTIONS,
    "reasoning": REASONING,
    "documents": DOCUMENTS,
}
