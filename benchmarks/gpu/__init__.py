"""The parts of `gpu_check.py`: one idea a file. Importing any of these is quick; `run` imports torch."""
