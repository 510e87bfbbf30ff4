"""The first GPU: a bundle that checks and measures mlc_llm where there is nothing but a driver.

======================= ======================================================================
module                  says
======================= ======================================================================
:mod:`.pack`            makes the bundle, on a machine without a GPU
:mod:`.packages`        what it has of Python packages, without what only compilers need
:mod:`.libraries`       what it has of compiled code
:mod:`.run`             the program of the bundle: steps in child processes, and their deadline
:mod:`.side`            the child process of a step
:mod:`.device`          step: which GPU this is
:mod:`.checks`          steps: instructions, and kernels, against NumPy
:mod:`.cases`           how a check is packed in one place and run in another
:mod:`.instructions`    the checks of instructions of tensor cores and copies
:mod:`.kernel_cases`    the checks of kernels
:mod:`.agreement`       step: a small model's answers, against those of the CPU
:mod:`.peaks`           step: what the GPU does at best
:mod:`.speed`           step: prefill and decode of models, and where the time goes
:mod:`.torch_side`      step: torch and transformers, where the machine has them
:mod:`.machine_code`    what NVIDIA's compiler makes of kernels
:mod:`.counting`        what kernels ask of a GPU's memory
:mod:`.predictions`     the tables in ``docs/cuda.md`` that both lead to
======================= ======================================================================

    python -m benchmarks.gpu pack -o bundle.tar.gz
"""
