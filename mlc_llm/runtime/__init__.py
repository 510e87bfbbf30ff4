"""Running a compiled model: the engine thread, the loaded model, sampling, the decode loop.

Nothing here imports the compiler, and TVM is imported when a model is loaded, only its runtime.
"""
