"""Chat templates of the models themselves: the Jinja texts that lie beside their weights.

Such a template is a program that someone on the internet wrote. It runs in jinja2's immutable
sandbox (:mod:`.environment`), where it pays for all that it does (:mod:`.budget`): what would run
for ever or fill the memory ends in an error. Each character of the prompt knows whether the
template wrote it (:mod:`.origin`), and only what the template wrote can be a control token.

jinja2 is imported where a template is compiled, not before.
"""
