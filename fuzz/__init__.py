"""Fuzzing: damaged input of every kind, and what mlc_llm makes of it.

Whatever a file, a prompt or a cache holds, mlc_llm either works or raises an error of its own. It
never crashes, hangs, takes memory out of proportion, or raises an error of another kind.
``README.md`` beside this file tells how to run it, how to reproduce a finding, and how to add a
subject.

- ``subject``: what is fuzzed, which ``subjects`` has one file a kind of;
- ``mutation``: how valid input is damaged;
- ``worker``: a child process that feeds inputs and says what became of each;
- ``campaign``: the parent, which limits time and memory and collects what is found;
- ``injection``: signals, full disks, short files and two processes at once.
"""
