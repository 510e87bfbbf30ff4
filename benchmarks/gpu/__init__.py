"""The first GPU: a bundle that checks and measures mlc_llm where there is nothing but a driver.

======================= ======================================================================
module                  says
======================= ======================================================================
:mod:`.pack`            makes the bundle, on a machine without a GPU
:mod:`.packages`        what it has of Python packages, without what only compilers need
:mod:`.libraries`       what it has of compiled code
:mod:`.run`             the program of the bundle: steps in child processes, and their deadline
:mod:`.side`            the child process of a step
:mod:`.instructions`    step: what the instructions of tensor cores and copies do
:mod:`.kernel_cases`    step: kernels against NumPy
:mod:`.agreement`       step: a small model's answers, against those of the CPU
:mod:`.peaks`           step: what the GPU does at best
:mod:`.speed`           step: prefill and decode of models, and where the time goes
:mod:`.torch_side`      step: torch and transformers, where the machine has them
======================= ======================================================================

    python -m benchmarks.gpu pack -o bundle.tar.gz
"""
