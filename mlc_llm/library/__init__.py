"""Where a model's compiled code comes from: a named file, files that lie about, or the compiler.

:func:`mlc_llm.library.resolve.resolve_library` asks the providers in turn. Each is a plugin of the
group ``mlc_llm.model_libraries``; those here are the built-in ones.
"""
