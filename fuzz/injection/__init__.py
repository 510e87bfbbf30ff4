"""Accidents while mlc_llm works: signals, full disks, short files, two processes at once.

After each, what is on the disk is whole or is not there, no process is left, and the same command
works when it is run again. ``python -m fuzz.injection`` tries them and counts.

- ``program``: a command in a process of its own, and how it ended;
- ``scenario``: what is disturbed, and what must hold afterwards; one file each;
- ``accidents``: how it is disturbed;
- ``short_files``: files that are cut at every place where something begins or ends.
"""
